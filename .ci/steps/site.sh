# The website builds, and holds in a browser.
environment dev
build_site() {
    { command -v npm || install npm; } && pip install -q -e '.[dev,site]' && python tools/build_site.py --out "$work/site"
}
browse() {
    { command -v chromium || command -v google-chrome || install chromium; } && python tools/check_site.py "$work/site"
}
check 'the website builds' build_site
check 'the website holds in a browser' browse
