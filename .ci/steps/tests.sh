# README's second command as it stands there. The tests count themselves.
command=$(grep -F 'tools/run_tests.py' README.md | head -n 1)
echo "README: $command"
start=$SECONDS
python3 -m venv .venv && torch_alone .venv/bin/pip
bash -c "$command" 2>&1 | tee "$work/tests"
echo "README's test command took $((SECONDS - start)) s"
counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$work/tests" | tail -n 1)
if [ -n "$counts" ]; then
    read -r p _ f _ <<<"$counts"
    passed=$((passed + p)) failed=$((failed + f))
else
    failed=$((failed + 1))
    echo "FAILED  README's test command gave no count"
fi
environment dev
