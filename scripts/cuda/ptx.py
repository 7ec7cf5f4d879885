"""Makes the PTX of crates/gearkv-cuda/kernels anew and compares it with what is committed, then assembles it and looks for spills.

python3 scripts/cuda/ptx.py           compares
python3 scripts/cuda/ptx.py --write   writes

NVRTC and ptxas come from PyPI, of the one version whose PTX every driver from 525 on takes. Says why where they cannot be had, and
succeeds.
"""

import ctypes
import os
import pathlib
import platform
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

VERSION = "12.0.140"
KERNELS = pathlib.Path(__file__).resolve().parents[2] / "crates/gearkv-cuda/kernels"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / f"gear-kv/cuda-{VERSION}"
TARGETS = ("75", "80")
# (PTX, machine): what is assembled.
MACHINES = (("75", "75"), ("80", "80"), ("80", "90"))


def compiler():
    """The folder with NVRTC and ptxas; None, and why, where they cannot be had."""
    found = CACHE / "nvidia"
    if (CACHE / "complete").exists():
        return found, None
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None, f"NVRTC {VERSION} is here for linux-x64 only"
    CACHE.mkdir(parents=True, exist_ok=True)
    packages = [f"nvidia-cuda-nvrtc-cu12=={VERSION}", f"nvidia-cuda-nvcc-cu12=={VERSION}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE), *packages]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        said = ran.stderr.strip().splitlines() or ["no reason given"]
        return None, f"pip cannot fetch NVRTC {VERSION}: {said[-1]}"
    for wheel in CACHE.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(CACHE)
        wheel.unlink()
    (found / "cuda_nvcc/bin/ptxas").chmod(0o755)
    (CACHE / "complete").touch()
    return found, None


def compile_ptx(folder, target):
    """The PTX for one target, without the comments that NVRTC puts around inline assembly."""
    nvrtc = ctypes.CDLL(str(folder / "cuda_nvrtc/lib/libnvrtc.so.12"))

    def call(name, *arguments):
        code = getattr(nvrtc, name)(*arguments)
        if code != 0 and name != "nvrtcCompileProgram":
            raise RuntimeError(f"{name}: error {code}")
        return code

    def text(name):
        size = ctypes.c_size_t()
        call(f"nvrtcGet{name}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        call(f"nvrtcGet{name}", program, buffer)
        return buffer.value.decode()

    headers = sorted(KERNELS.glob("*.cuh"))
    sources = (ctypes.c_char_p * len(headers))(*[path.read_bytes() for path in headers])
    names = (ctypes.c_char_p * len(headers))(*[path.name.encode() for path in headers])
    program = ctypes.c_void_p()
    source = (KERNELS / "gear.cu").read_bytes()
    call("nvrtcCreateProgram", ctypes.byref(program), source, b"gear.cu", len(headers), sources, names)
    options = [f"--gpu-architecture=compute_{target}".encode(), b"--std=c++17", b"--device-as-default-execution-space"]
    if call("nvrtcCompileProgram", program, len(options), (ctypes.c_char_p * len(options))(*options)) != 0:
        raise RuntimeError(text("ProgramLog"))
    lines = (line.rstrip() for line in text("PTX").splitlines())
    kept = (line for line in lines if line and not line.lstrip().startswith("// "))
    return "\n".join(kept) + "\n"


def assemble(folder, ptx, machine):
    """What ptxas says of a file, when that is no success without spills."""
    command = [str(folder / "cuda_nvcc/bin/ptxas"), "-v", f"-arch=sm_{machine}", str(ptx), "-o", os.devnull]
    ran = subprocess.run(command, capture_output=True, text=True)
    said = ran.stdout + ran.stderr
    spills = [line for line in said.splitlines() if "spill" in line and "0 bytes spill stores, 0 bytes spill loads" not in line]
    return said if ran.returncode != 0 else "\n".join(spills)


def main():
    folder, reason = compiler()
    if folder is None:
        print(f"skipped: {reason}")
        return 0
    with ThreadPoolExecutor() as pool:
        made = dict(zip(TARGETS, pool.map(lambda target: compile_ptx(folder, target), TARGETS)))
        failed = 0
        for target, ptx in made.items():
            path = KERNELS / f"gear.compute_{target}.ptx"
            if "--write" in sys.argv[1:]:
                path.write_text(ptx)
            elif not path.exists() or path.read_text() != ptx:
                print(f"{path.name} is not what its sources make; run: python3 scripts/cuda/ptx.py --write")
                failed = 1
        problems = pool.map(lambda pair: assemble(folder, KERNELS / f"gear.compute_{pair[0]}.ptx", pair[1]), MACHINES)
        for (target, machine), problem in zip(MACHINES, problems):
            print(f"compute_{target} for sm_{machine}: {problem or 'assembled, no spills'}")
            failed |= problem != ""
    return failed


if __name__ == "__main__":
    sys.exit(main())
