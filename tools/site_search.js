// Search by words. It stands in for Fuse, which compares the whole query with a text letter by letter:
// smalldocs calls `new Fuse(entries).search(query, {limit})` and shows the entries in the order of the answer.
(() => {
  const ignored = 'a an and are by can do does for how i in is it my of on or the this to up what which with';
  const IGNORED = new Set(ignored.split(' '));
  // What people type, and the words of the pages for it
  const SAME = {
    fp16: ['float16', 'bfloat16', '16-bit'], bf16: ['bfloat16'], half: ['float16', 'bfloat16'], fp32: ['float32'],
    llm: ['language'], cuda: ['gpu'], setup: ['install'], pip: ['install'], speed: ['faster', 'time'],
    huggingface: ['hugging'], ddp: ['processes'], distributed: ['processes'], multi: ['several'],
    quantize: ['quantization'],
  };
  const WEIGHTS = { title: 6, section: 5, description: 4, text: 1 };
  const PER_PAGE = 3;

  const stem = (word) => {
    const short = word.replace(/(ings?|ions?|ed|es|e|s)$/, (end) => (end === 's' && word.endsWith('ss') ? 's' : ''));
    return short.length >= 3 ? short : word;
  };
  const words = (text) => (text || '').replace(/([a-z])([A-Z][a-z])/g, '$1 $2').toLowerCase().match(/[a-z0-9]+/g) || [];
  const count = (text) => {
    const counts = new Map();
    const counted = words(text).filter((word) => !IGNORED.has(word)).map(stem);
    counted.forEach((word) => counts.set(word, (counts.get(word) || 0) + 1));
    return counts;
  };
  const page = (entry) => entry.href.split('#')[0];

  window.Fuse = class {
    constructor(entries) {
      this.entries = entries.map((item) => {
        const fields = Object.keys(WEIGHTS).map((field) => {
          const counts = count(item[field]);
          const part = field === 'text' ? 1 : 1 / Math.max(counts.size, 1); // short headings are about each word
          return [WEIGHTS[field] * (1 + part) / 2, counts, field];
        });
        return { item, fields, length: words(item.text).length };
      });
      this.vocabulary = new Map(); // word: in how many entries
      for (const { fields } of this.entries) {
        const seen = new Set(fields.flatMap(([, counts]) => [...counts.keys()]));
        seen.forEach((word) => this.vocabulary.set(word, (this.vocabulary.get(word) || 0) + 1));
      }
    }

    // The words of the index that a typed word stands for, with their rarity; the last one may be a beginning
    meanings(word, last) {
      const stems = new Set([word, ...(SAME[word] || [])].flatMap(words).map(stem));
      const known = [...this.vocabulary.keys()].filter((w) => stems.has(w));
      const begun = last && !known.length ? [...this.vocabulary.keys()].filter((w) => w.startsWith(word)) : [];
      const rarity = (w) => Math.log(1 + this.entries.length / this.vocabulary.get(w));
      return [...known.map((w) => [w, rarity(w)]), ...begun.map((w) => [w, 1])];
    }

    // How well an entry answers one typed word
    wordScore(entry, meanings) {
      const long = 0.5 + entry.length / 400;
      const scores = meanings.map(([word, rarity]) => rarity * entry.fields.reduce((sum, [weight, counts, field]) => {
        const n = counts.get(word) || 0;
        return sum + weight * (field === 'text' ? n * 2 / (n + long) : Math.min(n, 1));
      }, 0));
      return Math.max(0, ...scores);
    }

    // Chapters explain, and link to the API; a heading answers more than a name that has the word in it
    kind({ href, section }, query) {
      const name = section.toLowerCase() === query.trim().toLowerCase() ? 2 : /\w[_.]\w/.test(section) ? 0.7 : 1;
      return name * (href.startsWith('api/') ? 0.6 : 1);
    }

    search(query, { limit }) {
      const typed = words(query);
      const wanted = typed.filter((word) => !IGNORED.has(word));
      const asked = (wanted.length ? wanted : typed).map((word, i, all) => this.meanings(word, i === all.length - 1));
      const found = this.entries.map((entry) => {
        const scores = asked.map((meanings) => this.wordScore(entry, meanings));
        const hit = scores.filter((score) => score > 0).length / scores.length;
        const sum = scores.reduce((a, b) => a + b, 0);
        return { item: entry.item, score: this.kind(entry.item, query) * hit * hit * sum };
      }).filter(({ score }) => score > 0).sort((a, b) => b.score - a.score);
      const shown = new Map();
      return found.filter(({ item }) => {
        shown.set(page(item), (shown.get(page(item)) || 0) + 1);
        return shown.get(page(item)) <= PER_PAGE;
      }).slice(0, limit);
    }
  };
})();
