"""Ablations by name, as the command line asks for them."""

from __future__ import annotations

from dataclasses import fields

from hydrascope.ablations._base import REGISTRY, Ablation
from hydrascope.errors import AblationError, did_you_mean


def named_ablations(names: str, donors: int | None = None, dealt: int | None = None) -> tuple[Ablation, ...]:
    """Read ablations from their names with commas between.

    Args:
        names: names such as `resample,zero,mean`.
        donors: values per prompt, for ablations that draw several; None for their default.
        dealt: default number of donors, if not the ablation's own.

    Raises:
        AblationError: no such name, or a number of donors that makes no sense for any of them.
    """
    wanted = [name.strip() for name in names.split(",")]
    several = {name: donors for name in wanted if name in REGISTRY and _draws_several(REGISTRY[name])}
    default = several or dict.fromkeys(wanted, donors)
    if donors is None:
        default |= {name: dealt for name in wanted if name in REGISTRY and REGISTRY[name].deals}
    return tuple(named_ablation(name, default.get(name)) for name in wanted)


def named_ablation(name: str, donors: int | None = None) -> Ablation:
    """Make the ablation of a name.

    Args:
        name: name such as `zero`, `mean` or `resample`.
        donors: values per prompt, for one that draws several; None for its default.

    Raises:
        AblationError: no such name, or a number of donors that makes no sense for it.
    """
    if name not in REGISTRY:
        raise AblationError(f"no ablation '{name}'{did_you_mean(name, REGISTRY)}; choose {', '.join(sorted(REGISTRY))}")
    kind = REGISTRY[name]
    if donors is None:
        return kind()
    if donors < 1:
        raise AblationError(f"{donors} donors cannot be averaged over; ask for at least 1")
    if _draws_several(kind):
        return kind(donors=donors)  # type: ignore[call-arg]
    if donors > 1:
        raise AblationError(
            f"the {name} ablation has one value per prompt, not {donors}; leave their number out (--donors)"
        )
    return kind()


def _draws_several(kind: type[Ablation]) -> bool:
    return any(field.name == "donors" for field in fields(kind))  # type: ignore[arg-type]
