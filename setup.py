"Everything about the package is in settings.ini; this file hands it to setuptools."
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

root = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(root/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
extras = {name: cfg[f'{name}_requirements'].split() for name in ('hf', 'onnx', 'site', 'bench', 'dev')}
extras['dev'] += extras['hf'] + extras['onnx']
published = cfg.getboolean('published')
source = f"{cfg['git_url']}/blob/{cfg['branch']}"
links = {
    'Homepage': cfg['git_url'],
    'Documentation': cfg['doc_host'] + cfg['doc_baseurl'],
    'Issues': f"{cfg['git_url']}/issues",
    'Changelog': f'{source}/CHANGELOG.md',
}


def registry_page(text):
    "README for a registry, where relative links lead nowhere: absolute ones or, before there are any, their text alone"
    images, relative = r'!\[([^]]*)\]\((?!https?:)([^)]*)\)', r'\[([^]]*)\]\((?!https?:|#)([^)]*)\)'
    if published:
        text = re.sub(images, rf'![\1]({source}/\2?raw=true)', text)
        return re.sub(relative, rf'[\1]({source}/\2)', text)
    return re.sub(relative, r'\1', re.sub(images, '', text))


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=registry_page((root/'README.md').read_text(encoding='utf-8')),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    project_urls=links if published else {},
    keywords=cfg['keywords'].split(),
    license_expression=cfg['license'],
    license_files=cfg['license_files'].split(),
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Natural Language :: English',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        *[f'Programming Language :: Python :: {version}' for version in ('3.10', '3.11', '3.12', '3.13', '3.14')],
    ],
    packages=find_packages(include=['svd_compress', 'svd_compress.*']),
    include_package_data=False,
    package_data={cfg['lib_name']: ['mnist_idx/*']},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
    zip_safe=False,
)
