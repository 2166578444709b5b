"""`resguardo review`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app import settings
from app.commands.console import out, report_refusals
from app.errors import InvalidInput
from app.review.proposals import (
    RULES_FILE,
    import_pairs,
    parse_pairs,
    propose_rules,
    read_rules_file,
)
from app.settings import OwnerSettings

commands = typer.Typer(no_args_is_help=True, help="The rules of the review: policies/review.toml.")


@commands.command("propose")
def propose(
    file: Annotated[Path, typer.Argument(help="The rules to propose.")] = RULES_FILE,
) -> None:
    """Propose rules of the review to the compliance officers, as the owner. Two officers must approve them."""
    with report_refusals():
        url = settings.load(OwnerSettings).database_url.get_secret_value()
        policy_id = propose_rules(url, read_rules_file(file))
        out.print(f"[green]proposed[/] {policy_id}: two compliance officers must approve it")


@commands.command("import-pairs")
def import_related_pairs(
    file: Annotated[Path, typer.Argument(help="A CSV file: staff_user_id, patient_external_id, relation.")],
    relation: Annotated[
        list[str], typer.Option(help="SELF, SURNAME, HOUSEHOLD or CO_WORKER: the file has all its pairs.")
    ],
) -> None:
    """Import the pairs of related members of staff and patients, as the owner. The file replaces all earlier pairs of
    the given relations.
    """
    with report_refusals():
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput("pairs_malformed", place=file.name) from error
        url = settings.load(OwnerSettings).database_url.get_secret_value()
        count = import_pairs(url, parse_pairs(text), list(dict.fromkeys(relation)))
        out.print(f"[green]imported[/] {count} pairs of {escape(', '.join(dict.fromkeys(relation)))}")
