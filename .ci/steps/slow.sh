# Slow cells of the chapters and tutorials where they take minutes, not hours.
environment dev
books='mnist 06_checkpoints 08_training 09_baseline 18_compression 25_kernel 27_benchmarking 28_experiment cnn several_processes tests_pretrained'
check "slow cells of $books" python tools/run_tests.py --slow $books
