"""Compile the kernel of svd_compress for GPUs, which needs none. A line is printed for each launch: registers, bytes
spilled, shared memory. Arguments: compute capabilities, default: 80 and 90. The exit status is 1 if a launch does not
compile. The environment variable TRITON_INTERPRET must not be set."""
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from svd_compress import kernel

CUOBJDUMP = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
POINTERS = {'x', 'W', 'out'}  # in the storage dtype
OTHERS = {'B': '*fp32', 'partial': '*fp32', 'before': '*fp32', 'after': '*fp32', 'table': '*i32'}
ALIGNED = POINTERS | set(OTHERS) | {'n0', 'outputs', 'stride_row'}  # divisible by 16
DTYPES = {'bf16': torch.bfloat16, 'fp32': torch.float32}
KERNELS = {
    'chain': kernel._chain_kernel,
    'enter': kernel._enter_kernel,
    'stage': kernel._stage_kernel,
    'leave': kernel._leave_kernel,
}


class Launch(NamedTuple):
    "How a kernel is launched, and for which GPU"

    name: str
    arch: int
    dtype: str
    warps: int
    stages: int
    constants: dict

    def __str__(self):
        shown = ' '.join(f'{name}={self.constants[name]}' for name in ('R', 'BM', 'BK', 'ACT', 'WIDE'))
        precision = f' {self.constants["PRECISION"]}' if self.dtype == 'fp32' else ''
        return f'{self.name:5} sm_{self.arch} {self.dtype} {shown} warps={self.warps}{precision}'


def make_launch(name, arch, dtype, warps, stages, **constants):
    "Return a launch, with the default constants"
    defaults = {'PRECISION': 'tf32', 'ACT': 1, 'LAST_ACT': 0, 'WIDE': False}
    return Launch(name, arch, dtype, warps, stages, {**defaults, **constants})


def argument_type(name, constants, dtype):
    "Return the type of a kernel's argument, as Triton names it"
    if name in constants:
        return 'constexpr'
    return f'*{dtype}' if name in POINTERS else OTHERS.get(name, 'i32')


def build(launch):
    "Return the compiled kernel; the rows of x are contiguous"
    jitted = KERNELS[launch.name]
    names = jitted.arg_names
    constants = {'stride_col': 1, **launch.constants}
    constants = {name: value for name, value in constants.items() if name in names}
    signature = {name: argument_type(name, constants, launch.dtype) for name in names}
    aligned = [i for i, name in enumerate(names) if name in ALIGNED and name not in constants]
    attributes = {(i,): [['tt.divisibility', 16]] for i in aligned}
    source = ASTSource(jitted, signature, constants, attributes)
    options = {'num_warps': launch.warps, 'num_stages': launch.stages}
    return triton.compile(source, target=GPUTarget('cuda', launch.arch, 32), options=options)


class Usage(NamedTuple):
    "What a kernel takes of a GPU"

    registers: int
    spilled: int  # Bytes
    shared: int  # Bytes


def usage(compiled):
    "Return the `Usage` of a compiled kernel"
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(compiled.asm['cubin'])
        file.flush()
        command = [CUOBJDUMP, '--dump-resource-usage', file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf'{key}:(\d+)', text)[1]) for key in ('REG', 'STACK', 'LOCAL'))
    return Usage(registers, stack + local, compiled.metadata.shared)


def compiles(launch):
    "Print a line about a launch, and return whether it compiles"
    try:
        used = usage(build(launch))
    except Exception as error:  # of any kind: the next launch is tried
        print(f'{launch}: failed, {type(error).__name__} {str(error)[:200]}', flush=True)
        return False
    sizes = f'{used.registers} registers, {used.spilled} bytes spilled, {used.shared / 1024:.0f} KiB shared'
    print(f'{launch}: {sizes}', flush=True)
    return True


def likeliest(arch, dtype, precision, R, rows):
    "Return the launch that is tried first for a number of rows"
    shared = 227 * 1024 if arch in (90, 100) else 99 * 1024
    config = kernel.configs(rows, R, DTYPES[dtype], precision, shared=shared)[0]
    name = 'chain' if config.kind == 'fused' else 'stage'
    constants = {'BM': config.BM, 'BK': config.BK, 'R': R, 'PRECISION': precision}
    return make_launch(name, arch, dtype, config.num_warps, config.num_stages, **constants)


def launches(arch):
    "Yield the launches that are tried first, the other kernels, and the activations"
    for dtype, precision in (('bf16', 'tf32'), ('fp32', 'tf32'), ('fp32', 'tf32x3')):
        for R in (16, 32, 256):
            for rows in (1, 1_000_000):
                yield likeliest(arch, dtype, precision, R, rows)
    for name in ('enter', 'leave'):
        yield make_launch(name, arch, 'fp16', 4, 3, BM=16, BK=64, R=64, WIDE=True)
    for act in (kernel.MIXED, 2, 5):
        yield make_launch('chain', arch, 'fp16', 8, 3, BM=128, BK=64, R=64, ACT=act, WIDE=True, LAST_ACT=5)


def main(architectures):
    "Return the exit status"
    failed = 0
    for arch in architectures:
        for candidate in launches(arch):
            failed += not compiles(candidate)
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main([int(arch) for arch in sys.argv[1:]] or [80, 90]))
