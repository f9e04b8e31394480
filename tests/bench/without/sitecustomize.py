"""Python's own hook for a start: every process of Oxherd that has this on its path does without containment.

For one measurement alone, of what containment takes from a job that does nothing. Cut out is what is done for
each job: the looks after it, its directory, the CPU clock of its runner, the watch over limits, the health of
its queue. The profile is the caller's to say.
"""

import importlib.abc
import importlib.util
import sys


def _nothing(*_args, **_named):
    return None


def _cut_from(module):
    match module.__name__:
        case "sandbox.hygiene":
            module.Hygiene.look = _nothing
        case "sandbox.runner":
            module.tidy = _nothing
        case "supervisor.master.evidence":
            module.begin = _nothing
        case "supervisor.master.watch":
            module.Watch.begin = module.Watch.forget = _nothing
        case "supervisor.master.health":
            module.Health.took = module.Health.ended = _nothing


_CUT = (
    "sandbox.hygiene",
    "sandbox.runner",
    "supervisor.master.evidence",
    "supervisor.master.health",
    "supervisor.master.watch",
)


class _Cutter(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in _CUT:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        run = spec.loader.exec_module

        def then_cut(module):
            run(module)
            _cut_from(module)

        spec.loader.exec_module = then_cut
        return spec


sys.meta_path.insert(0, _Cutter())
