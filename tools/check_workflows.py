"""Exit with 1 if a workflow uses an action without a commit's hash, keeps credentials or grants rights to all jobs."""
import re
import sys
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent.parent/'.github'/'workflows'
PINNED = re.compile(r'uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$')


def step_faults(step):
    "What is wrong with one step of a job"
    action = step.get('uses', '')
    if action.startswith('actions/checkout@') and step.get('with', {}).get('persist-credentials') is not False:
        yield 'actions/checkout needs persist-credentials: false'
    if 'extra-index' in step.get('run', ''):
        yield '--extra-index-url lets any package come from either index; install PyTorch alone by --index-url'


def faults(text):
    "What is wrong with a workflow"
    for line in text.splitlines():
        if re.match(r'[\s-]*uses:', line) and not PINNED.search(line):
            yield f'{line.strip()} needs the 40 digits of a commit and its version, like # v1.2.3'
    workflow = yaml.safe_load(text)
    if workflow.get('permissions') != {}:
        yield 'permissions: {} is needed at the top; each job names its own'
    if 'EXTRA_INDEX' in text:
        yield 'PIP_EXTRA_INDEX_URL lets any package come from either index; use TORCH_INDEX_URL'
    for name, job in workflow['jobs'].items():
        if 'permissions' not in job:
            yield f'job {name} needs permissions'
        for step in job.get('steps', []):
            yield from step_faults(step)


def main():
    found = [f'{path.name}: {fault}' for path in sorted(FOLDER.glob('*.y*ml')) for fault in faults(path.read_text())]
    sys.exit('\n'.join(found) or 0)


if __name__ == '__main__':
    main()
