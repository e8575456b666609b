"""The peak of memory, on systems that we cannot run here as well."""

import ctypes
import math
import subprocess
import sys
import types

from tinygrad_attn_models.speed import memory


def test_without_the_module_resource():
    code = (
        "import sys; sys.modules['resource'] = None\n"
        "from tinygrad_attn_models.speed import bench, profile\n"
        "from tinygrad_attn_models.speed.memory import peak_memory\n"
        "print(peak_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["nan"]


def test_on_windows_the_kernel_is_asked(monkeypatch):
    answers = [1, 0]

    def process_memory_info(process, address, size):
        counters = memory._Counters.from_address(address)
        assert (process, size) == (-1, ctypes.sizeof(counters)) and counters.size == size
        counters.peak_working_set = 123 << 20
        return answers.pop(0)

    class Function:
        def __init__(self, function):
            self.function = function

        def __call__(self, *arguments):
            return self.function(*arguments)

    kernel = types.SimpleNamespace(
        GetCurrentProcess=Function(lambda: -1), K32GetProcessMemoryInfo=Function(process_memory_info)
    )
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=kernel), raising=False)
    assert memory.peak_memory() == 123.0
    assert math.isnan(memory.peak_memory())


def test_the_counters_lie_as_windows_has_them():
    """PROCESS_MEMORY_COUNTERS: two DWORDs and eight SIZE_Ts."""
    assert memory._Counters.peak_working_set.offset == 8
    assert ctypes.sizeof(memory._Counters) == 8 + 8 * ctypes.sizeof(ctypes.c_size_t)
