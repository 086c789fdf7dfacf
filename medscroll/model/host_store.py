"""Layer inputs in host memory: copied out while the layer computes, and back while the layer above goes backward.

How: one pinned buffer a layer input, registered with the driver at its exact size (PyTorch's own pinned allocator
rounds up to a power of two: 3 GiB would take 4) and used again every step. Both copies run on a stream of their own;
the computing stream waits only for a copy that it needs. A fetch starts the copy of the one below.

Cost: device: two layer inputs on the way out, two on the way back. Host: the sum of the layer inputs. The first step
also touches (from all cores) and registers the buffers. On a CPU the copies are plain ones, for tests.
"""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from medscroll.errors import CapacityError

PIECE = 64 * 2**20  # bytes that one thread touches at a time


class HostSlot:
    """One stored tensor; `previous` is the one stored before it in the same forward pass."""

    def __init__(self, buffer: torch.Tensor, like: torch.Tensor, pool: list[torch.Tensor], previous: Any) -> None:
        nbytes = like.numel() * like.itemsize
        self.host = buffer[:nbytes].view(like.dtype).view(like.shape)
        self.device, self.previous = like.device, previous
        self.incoming: torch.Tensor | None = None
        self.arrived: torch.cuda.Event | None = None
        self.fetched = False
        self._buffer: torch.Tensor | None = buffer
        self._pool = pool

    def release(self) -> None:
        """Give the buffer back; a later copy into it is ordered behind those out of it on the same stream."""
        if self._buffer is not None:
            self._pool.append(self._buffer)
            self._buffer = None

    def __del__(self) -> None:
        self.release()


class HostStore:
    """Puts tensors into host memory and fetches them in the opposite order.

    Args:
        capacity: bytes of the largest tensor that will come, so that buffers are registered once.
    """

    def __init__(self, capacity: int = 0) -> None:
        self.capacity = capacity
        self.bytes_held = 0
        self._pool: list[torch.Tensor] = []
        self._stream: torch.cuda.Stream | None = None
        self._leaving: tuple[torch.Tensor, torch.cuda.Event] | None = None

    def put(self, tensor: torch.Tensor, previous: HostSlot | None) -> HostSlot:
        """Start copying `tensor` out; the caller drops its own reference.

        Raises:
            CapacityError: the host has no memory for another buffer.
        """
        slot = HostSlot(self._buffer(tensor.numel() * tensor.itemsize, tensor.is_cuda), tensor, self._pool, previous)
        if not tensor.is_cuda:
            slot.host.copy_(tensor)
            return slot
        computing, side = torch.cuda.current_stream(tensor.device), self._side(tensor.device)
        self._let_go(computing)
        side.wait_stream(computing)
        done = torch.cuda.Event()
        with torch.cuda.stream(side):
            slot.host.copy_(tensor, non_blocking=True)
            done.record(side)
        self._leaving = (tensor.detach(), done)  # its memory must not be used again before the copy is done
        return slot

    def fetch(self, slot: HostSlot) -> torch.Tensor:
        """The stored tensor on its device; starts the copy of the one stored before it. Each slot is fetched once."""
        if slot.fetched:
            raise RuntimeError("a layer input was fetched from host memory twice: one backward pass a forward pass")
        slot.fetched = True
        if slot.device.type != "cuda":
            found = slot.host.clone()
            slot.release()
            return found
        computing = torch.cuda.current_stream(slot.device)
        self._let_go(computing)
        if slot.incoming is None:
            self._start(slot, computing)
        assert slot.arrived is not None
        computing.wait_event(slot.arrived)
        tensor, slot.incoming = slot.incoming, None
        slot.release()
        before = slot.previous
        if before is not None and not before.fetched and before.incoming is None:
            self._start(before, computing)
        assert tensor is not None
        return tensor

    def prefetch(self, slot: HostSlot) -> None:
        """Start copying a slot back that will be fetched next."""
        if slot.device.type == "cuda" and not slot.fetched and slot.incoming is None:
            computing = torch.cuda.current_stream(slot.device)
            self._let_go(computing)
            self._start(slot, computing)

    def _start(self, slot: HostSlot, computing: torch.cuda.Stream) -> None:
        slot.incoming = torch.empty(slot.host.shape, dtype=slot.host.dtype, device=slot.device)
        side = self._side(slot.device)
        side.wait_stream(computing)  # the memory just taken may still be in use there
        slot.arrived = torch.cuda.Event()
        with torch.cuda.stream(side):
            slot.incoming.copy_(slot.host, non_blocking=True)
            slot.arrived.record(side)

    def _let_go(self, computing: torch.cuda.Stream) -> None:
        if self._leaving is not None:
            computing.wait_event(self._leaving[1])
            self._leaving = None

    def _side(self, device: torch.device) -> torch.cuda.Stream:
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        return self._stream

    def _buffer(self, nbytes: int, pinned: bool) -> torch.Tensor:
        for index, buffer in enumerate(self._pool):
            if buffer.numel() >= nbytes:
                return self._pool.pop(index)
        size = max(nbytes, self.capacity)
        buffer = pinned_buffer(size) if pinned else torch.empty(size, dtype=torch.uint8)
        self.bytes_held += size
        return buffer


def pinned_buffer(size: int) -> torch.Tensor:
    """A uint8 tensor [size] in page-locked host memory of exactly that size.

    Raises:
        CapacityError: the host refuses, for lack of memory or of the right to lock it.
    """
    try:
        memory = mmap.mmap(-1, size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)  # 512 times fewer pages to touch and lock
    except OSError as error:
        raise _refused(size, str(error)) from error
    buffer = torch.frombuffer(memory, dtype=torch.uint8)
    touch(buffer)
    status = int(torch.cuda.cudart().cudaHostRegister(buffer.data_ptr(), size, 0))
    if status != 0:
        raise _refused(size, f"cudaHostRegister returned {status}")
    return buffer


def touch(buffer: torch.Tensor) -> None:
    """Write zeros to a uint8 tensor from all cores, so that its pages exist before the driver locks them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(cores, 16)) as threads:
        list(threads.map(torch.Tensor.zero_, buffer.split(PIECE)))


def _refused(size: int, reason: str) -> CapacityError:
    return CapacityError(
        f"the host gives no {size / 2**30:.1f} GiB of page-locked memory for a layer input ({reason})",
        where="--activation_memory ..._offload",
        remedy="--activation_memory every_4_offload stores a quarter of the layer inputs; or a smaller --block_size",
    )
