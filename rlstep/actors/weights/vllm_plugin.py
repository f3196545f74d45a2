"""vLLM loads this module, by entry point, in the front end and in every engine process.

It stays light: the engine classes themselves are imported when vLLM asks for them.
"""

import ctypes
import multiprocessing
import os
import signal

BACKEND = "rlstep_gloo"
_PR_SET_PDEATHSIG = 1


def register() -> None:
    """Register the gloo weight transfer and tie engine processes to their parent's life.

    Idempotent, since vLLM may load plugins more than once in one process and `register_engine`
    refuses a second registration (vLLM 0.32).
    """
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    module = "rlstep.actors.weights.gloo_receiver"
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, module, "GlooTransferEngine")
    if multiprocessing.parent_process() is not None:
        die_with_parent()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies.

    vLLM 0.32's engine process has no such watch and outlives a killed front end.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() == 1:  # the parent died before the request was made
        os.kill(os.getpid(), signal.SIGKILL)
