"""Texts that formats may be chosen on: Django's translations, spaCy's sentences, their code, the GPL's words.

Neither the gate nor the calibration mixture has any of them. They are read out of two wheels, which are downloaded and
never installed:

    pip download --no-deps django spacy
"""

from __future__ import annotations

import ast
import gettext
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jisu.exporter.gate.domain_tokens import DomainTokens

LANGUAGES = ("de", "fr", "ja", "zh_Hans", "ru", "ko", "ar", "pt", "el", "hi", "vi")
_CATALOGS = ("conf", "contrib/admin", "contrib/auth", "contrib/admindocs")
_LICENCE = Path("/usr/share/common-licenses/GPL-3")
_SHORTEST = 60  # characters of a translation that is more than a label
_SKIPPED = 40  # tokens at the beginning, which are headers


def development_texts(wheels: Path) -> dict[str, str]:
    """Name -> text of every domain.

    Args:
        wheels: folder that holds one wheel of Django and one of spaCy.
    """
    django, spacy = (zipfile.ZipFile(next(wheels.glob(f"{name}-*.whl"))) for name in ("django", "spacy"))
    texts = {f"django-{language}": translations(django, language) for language in LANGUAGES}
    texts["sentences"] = "\n".join(sentences(spacy, language) for language in ("en", "es", "it"))
    texts["python"] = spacy.read("spacy/scorer.py").decode()[3000:]
    texts["javascript"] = django.read("django/contrib/admin/static/admin/js/core.js").decode()
    texts["html"] = django.read("django/contrib/admin/templates/admin/change_list.html").decode()
    if _LICENCE.exists():
        texts["licence"] = _LICENCE.read_text(encoding="utf-8")[8000:14000]
    return texts


def translations(wheel: zipfile.ZipFile, language: str) -> str:
    """Whole sentences of Django's catalogs in a language, a line each."""
    names = set(wheel.namelist())
    lines: list[str] = []
    for catalog in _CATALOGS:
        name = f"django/{catalog}/locale/{language}/LC_MESSAGES/django.mo"
        if name in names:
            known: dict[Any, str] = vars(gettext.GNUTranslations(io.BytesIO(wheel.read(name))))["_catalog"]
            lines += [text for key, text in known.items() if key and len(text) > _SHORTEST]
    return "\n".join(lines)


def sentences(wheel: zipfile.ZipFile, language: str) -> str:
    """spaCy's examples of a language, a line each."""
    tree = ast.parse(wheel.read(f"spacy/lang/{language}/examples.py").decode())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(text for text in texts if "spacy" not in text)


def development_domains(tokenizer: Any, wheels: Path, *, tokens: int) -> list[DomainTokens]:
    """One window of each text, of so many tokens where it has them."""
    domains = []
    for name, text in development_texts(wheels).items():
        ids = np.asarray(tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)
        start = min(_SKIPPED, max(0, len(ids) - tokens))
        domains.append(DomainTokens(name=name, windows=(ids[start : start + tokens],)))
    return domains
