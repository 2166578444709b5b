"""Every quota must be a positive integer. If any quota is not a positive integer, the API does not start."""

from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.postgres.quotas import LanguageBudget, Quotas, load_language_budget, load_quotas


def _file(directory: Path, text: str) -> Path:
    path = directory / "quotas.toml"
    path.write_text(text)
    return path


def test_quotas_of_the_repository_are_read() -> None:
    quotas = load_quotas()
    assert quotas.urls >= 1
    assert quotas.pages >= quotas.subtitles >= quotas.urls
    assert quotas.invitations >= 1


OTHERS = "playbacks = 5\nsubtitles = 4\ninvitations = 3\nquestions = 6\nexports = 7\nemergencies = 8\n"


def test_quotas_are_read_by_name(tmp_path: Path) -> None:
    path = _file(tmp_path, f"[per_person_and_hour]\npages = 2\nurls = 1\n{OTHERS}")
    assert load_quotas(path) == Quotas(
        urls=1, playbacks=5, subtitles=4, pages=2, invitations=3, questions=6, exports=7, emergencies=8
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "urls = 1\npages = 2\n",
        "[per_person_and_hour]\nurls = 1\n",
        "[per_person_and_hour]\nurls = 1\npages = 2\n",
        f"[per_person_and_hour]\nurls = 1\n{OTHERS}pages = 0\n",
        f"[per_person_and_hour]\nurls = 1\n{OTHERS}pages = -2\n",
        f"[per_person_and_hour]\nurls = 1\n{OTHERS}pages = 2.5\n",
        f'[per_person_and_hour]\nurls = 1\n{OTHERS}pages = "2"\n',
        f"[per_person_and_hour]\nurls = 1\n{OTHERS}pages = 2147483648\n",
        "per_person_and_hour = 3\n",
        f"[per_person_and_hour]\nurls = true\n{OTHERS}pages = 2\n",
        f"[per_person_and_hour]\nurls = 1\n{OTHERS}pages = 2\nlooks = 3\n",
    ],
)
def test_quotas_missing_unknown_or_not_positive_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="quotas_malformed"):
        load_quotas(_file(tmp_path, text))


def test_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="quotas_malformed"):
        load_quotas(_file(tmp_path, "urls: 1"))


def test_budget_of_language_models_is_read(tmp_path: Path) -> None:
    assert load_language_budget().tokens >= 100_000
    assert load_language_budget(
        _file(tmp_path, "[language_per_doctor_and_day]\ntokens = 5\n")
    ) == LanguageBudget(5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[language_per_doctor_and_day]\n",
        *(
            f"[language_per_doctor_and_day]\n{line}\n"
            for line in ("tokens = 0", "tokens = 1.5", "calls = 3", "tokens = true")
        ),
    ],
)
def test_budget_missing_unknown_or_not_positive_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="quotas_malformed"):
        load_language_budget(_file(tmp_path, text))
