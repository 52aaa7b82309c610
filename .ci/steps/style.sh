# One thought a line: ruff's rules are in ruff.toml.
environment dev
check 'modules, tools and notebooks follow ruff.toml' ruff check svd_compress tools nbs
check 'workflows fit their schema' check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
check 'workflows pin their actions and keep no rights' python tools/check_workflows.py
check 'issue forms fit their schema' \
    check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yaml
