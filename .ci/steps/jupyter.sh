# Three notebooks in a real JupyterLab, as a reader would run them.
environment dev
jupyterlab() {
    { command -v chromium || command -v google-chrome || install chromium; } && pip install -q -e '.[dev,site]' \
        && python tools/check_jupyterlab.py --quick index 08_training 23_reporting
}
check 'notebooks run in JupyterLab' jupyterlab
