"""Checks of the layout DOMAIN/CLASS/IMAGE."""

import os
from pathlib import Path

from ..base.folders import composed, folders_in, hidden_in, shown, some


def class_folders(root, domains):
    """Return {domain: {class: name of its folder}}, with classes in the same order everywhere.

    Classes are sorted by the names of their folders. If domains have names in different Unicode
    forms (as on macOS and Linux), the composed forms are used and sorted.

    Raises:
        ValueError: a domain has no class folders, has the same name in two Unicode forms, or has
            other classes than the others. The message names the domain.
    """
    names = {domain: folders_in(os.path.join(root, domain)) for domain in domains}
    for domain, found in names.items():
        if not found:
            raise ValueError(
                f"No class folders in {root}/{shown(domain)}. Expected the layout "
                f"{root}/DOMAIN/CLASS/IMAGE."
            )
        forms = [composed(name) for name in found]
        twice = sorted({name for name in forms if forms.count(name) > 1})
        if twice:
            raise ValueError(
                f"{root}/{shown(domain)} has {twice[0]!r} twice, in two Unicode forms: merge the "
                "folders"
            )
    every = {composed(name) for found in names.values() for name in found}
    for domain, found in names.items():
        lacking = sorted(every - {composed(name) for name in found})
        if lacking:
            raise ValueError(
                f"Every domain of {root} must have the same class folders: {shown(domain)} lacks "
                f"{some(lacking, 10)}"
            )
    if len({tuple(found) for found in names.values()}) == 1:
        return {domain: dict(zip(found, found)) for domain, found in names.items()}
    return {
        domain: {composed(n): n for n in sorted(found, key=composed)}
        for domain, found in names.items()
    }


def check_readable_by_host(root, domains):
    """Check that DomainBed's reader would find the same domains and classes in the same order.

    Raises:
        ValueError: there are hidden folders, or a class name has two Unicode forms.
    """
    hidden = [os.path.join(root, name) for name in hidden_in(root)]
    for domain in domains:
        folder = os.path.join(root, domain)
        hidden += [os.path.join(folder, name) for name in hidden_in(folder)]
    if hidden:
        raise ValueError(
            f"DomainBed would use {len(hidden)} hidden folders as domains or classes: remove "
            f"{some(hidden)}"
        )
    for domain, found in class_folders(root, domains).items():
        for name, folder in found.items():
            if name != folder:
                raise ValueError(
                    f"The class folders of {root} have names in two Unicode forms, so DomainBed "
                    f"would use {name!r} as two classes: rename "
                    f"{shown(Path(root, domain, folder))} to the composed form (NFC)"
                )
