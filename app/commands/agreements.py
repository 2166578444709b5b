"""`resguardo agreements`."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeVar

import typer
from rich.markup import escape

from app import deployment, settings
from app.commands.console import out, report_refusals
from app.postgres.database import Database
from app.settings import OwnerSettings
from app.vendor_agreements.model import AgreementBasis, NewAgreement, VendorService
from app.vendor_agreements.service import OwnedRegister

commands = typer.Typer(no_args_is_help=True, help="The register of business associate agreements.")
T = TypeVar("T")
_DAY = ["%Y-%m-%d"]


@commands.command("record")
def record(
    service: Annotated[VendorService, typer.Argument(help="The service that receives PHI.")],
    vendor: Annotated[str, typer.Option(help="The company that runs the service.")],
    version: Annotated[str, typer.Option(help="The version of the agreement.")],
    signatory: Annotated[str, typer.Option(help="Who signed it for the practice.")],
    signed: Annotated[datetime, typer.Option(formats=_DAY, help="The day of the signature.")],
    expires: Annotated[datetime | None, typer.Option(formats=_DAY, help="The last day, if it ends.")] = None,
    basis: Annotated[AgreementBasis, typer.Option(help="SELF_OPERATED if you run the service yourself.")] = (
        AgreementBasis.AGREEMENT
    ),
) -> None:
    """Record a business associate agreement, as the owner. Entries never change: record a new entry to correct, renew
    or end an agreement.
    """
    agreement = NewAgreement(
        service, vendor, version, signatory, signed.date(), expires.date() if expires else None, basis
    )
    with report_refusals():
        entry = _run(lambda register: register.record(agreement))
        out.print(f"[green]recorded[/] {service} {entry}")


@commands.command("list")
def list_agreements() -> None:
    """List the agreement in force for each service, as the owner."""
    with report_refusals():
        newest = _run(lambda register: register.list_newest())
        for one in newest:
            end = "no end" if one.expires_on is None else f"until {one.expires_on}"
            out.print(
                f"{one.service} {escape(one.vendor)}, {escape(one.version)}, {one.basis}, {one.signed_on}, {end}"
            )
        if not newest:
            out.print("the register is empty: no process starts in production")


def _run(act: Callable[[OwnedRegister], Awaitable[T]]) -> T:
    return asyncio.run(_run_as_owner(settings.load(OwnerSettings), act))


async def _run_as_owner(loaded: OwnerSettings, act: Callable[[OwnedRegister], Awaitable[T]]) -> T:
    database = Database(
        loaded.database_url.get_secret_value(), application="resguardo-agreements", max_size=1
    )
    try:
        await database.open()
        await deployment.require_own_database(database, loaded.deployment)
        return await act(OwnedRegister(database))
    finally:
        await database.close()
