"""Compile the kernel of svd_compress for real GPUs, which needs none, and print a line for each: registers, bytes spilled, shared memory. Arguments: compute capabilities, 80 and 90 unless given; exit status 1 if one does not compile. Not under TRITON_INTERPRET."""
import os, re, subprocess, sys, tempfile
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from svd_compress import kernel as chains

CUOBJDUMP = os.path.join(os.path.dirname(triton.__file__), 'backends', 'nvidia', 'bin', 'cuobjdump')
POINTERS = {'x', 'W', 'out'}          # in the storage dtype
OTHERS = dict(B='*fp32', partial='*fp32', before='*fp32', after='*fp32', table='*i32')
ALIGNED = POINTERS | set(OTHERS) | {'n0', 'outputs', 'stride_row'} # divisible by 16

def build(kernel, arch, dtype, warps, stages, aligned=ALIGNED, **constants):
    "The compiled kernel; x has contiguous rows"
    names, constants = kernel.arg_names, {'stride_col': 1} | constants
    constants = {n: v for n, v in constants.items() if n in names and v is not None}
    signature = {n: 'constexpr' if n in constants else f'*{dtype}' if n in POINTERS else OTHERS.get(n, 'i32') for n in names}
    attrs = {(i,): [['tt.divisibility', 16]] for i, n in enumerate(names) if n in aligned and n not in constants}
    return triton.compile(ASTSource(kernel, signature, constants, attrs), target=GPUTarget('cuda', arch, 32), options=dict(num_warps=warps, num_stages=stages))

def usage(compiled):
    "Registers, bytes spilled, bytes of shared memory"
    with tempfile.NamedTemporaryFile(suffix='.cubin') as f:
        f.write(compiled.asm['cubin']); f.flush()
        text = subprocess.run([CUOBJDUMP, '--dump-resource-usage', f.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf'{word}:(\d+)', text).group(1)) for word in ('REG', 'STACK', 'LOCAL'))
    return registers, stack + local, compiled.metadata.shared

def report(name, kernel, arch, dtype, warps, stages, **constants):
    "Print a line; did it compile?"
    constants = dict(PRECISION='tf32', ACT=1, LAST_ACT=0, WIDE=False) | constants
    what = f'{name:5} sm_{arch} {dtype} ' + ' '.join(f'{k}={constants[k]}' for k in ('R', 'BM', 'BK', 'ACT', 'WIDE')) + f' warps={warps}' + (f" {constants['PRECISION']}" if dtype == 'fp32' else '')
    try: registers, spilled, shared = usage(build(kernel, arch, dtype, warps, stages, **constants))
    except Exception as error: print(f'{what}: failed, {type(error).__name__} {str(error)[:200]}', flush=True); return False # whatever the compiler says, the next one is tried
    print(f'{what}: {registers} registers, {spilled} bytes spilled, {shared/1024:.0f} KiB shared', flush=True)
    return True

def all_of(arch):
    "The launches that are tried first, the other kernels, and the activations; what each said"
    shared = 227*1024 if arch in (90, 100) else 99*1024
    for dtype, precision in (('bf16', 'tf32'), ('fp32', 'tf32'), ('fp32', 'tf32x3')):
        for R in (16, 32, 256):
            for rows in (1, 1_000_000):
                c = chains.configs(rows, R, dict(bf16=torch.bfloat16, fp32=torch.float32)[dtype], precision, shared=shared)[0]
                name, kernel = ('chain', chains._chain_kernel) if c.kind == 'fused' else ('stage', chains._stage_kernel)
                yield report(name, kernel, arch, dtype, c.num_warps, c.num_stages, BM=c.BM, BK=c.BK, R=R, PRECISION=precision)
    for kernel, name in ((chains._enter_kernel, 'enter'), (chains._leave_kernel, 'leave')): yield report(name, kernel, arch, 'fp16', 4, 3, BM=16, BK=64, R=64, WIDE=True)
    for act in (chains.MIXED, 2, 5): yield report('chain', chains._chain_kernel, arch, 'fp16', 8, 3, BM=128, BK=64, R=64, ACT=act, WIDE=True, LAST_ACT=5)

if __name__ == '__main__': sys.exit(0 if all([ok for arch in [int(a) for a in sys.argv[1:]] or [80, 90] for ok in all_of(arch)]) else 1)
