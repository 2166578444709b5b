"""GraphQL types and root fields for costs and for the budget of language models."""

from datetime import date
from typing import Annotated, Self

import strawberry

from app.costs import model
from app.costs.service import LanguageBudget as LiftedBudget
from graphql_schema.context import Info
from graphql_schema.people import User
from graphql_schema.scalars import BigInt, parse_id, to_id

_DAY = "This is the day (UTC)"


@strawberry.type(description="These are the configured prices of the vendors in US dollars.")
class CostPrices:
    egress_usd_per_minute: float = strawberry.field(
        description="This is the price of a minute of LiveKit's egress."
    )
    speech_usd_per_minute: float = strawberry.field(
        description="This is the price of a minute of sound that the speech service transcribes."
    )
    storage_usd_per_gb_month: float = strawberry.field(
        description="This is the price of one stored gigabyte in a month."
    )
    input_usd_per_million: float = strawberry.field(
        description="This is the price of a million tokens that a language model reads."
    )
    cached_usd_per_million: float = strawberry.field(
        description="This is the price of a million tokens that a language model reads from its prompt cache."
    )
    output_usd_per_million: float = strawberry.field(
        description="This is the price of a million tokens that a language model writes."
    )
    as_of: str = strawberry.field(
        description="This is the day, month or year in which somebody looked up the prices, except storage."
    )
    storage_as_of: str = strawberry.field(
        description="This is the day, month or year in which somebody looked up the price of storage."
    )

    @classmethod
    def of(cls, prices: model.CostPrices) -> Self:
        return cls(
            egress_usd_per_minute=prices.egress_minute,
            speech_usd_per_minute=prices.speech_minute,
            storage_usd_per_gb_month=prices.gb_month,
            input_usd_per_million=prices.million_input_tokens,
            cached_usd_per_million=prices.million_cached_tokens,
            output_usd_per_million=prices.million_output_tokens,
            as_of=prices.as_of,
            storage_as_of=prices.storage_as_of,
        )


@strawberry.type(
    description=(
        "This is one group of a cost report: a month, a doctor, or a vendor with one of its models. "
        "The group has what the vendors reported, and the costs at the configured prices."
    )
)
class CostReportGroup:
    starts_on: date | None = strawberry.field(
        description="This is the first day of the month. It is null unless the report is by MONTH."
    )
    doctor: User | None = strawberry.field(
        description="This is the doctor of the recordings. It is null unless the report is by DOCTOR."
    )
    vendor: str | None = strawberry.field(
        description=(
            "This is `livekit`, `bucket`, or the host of a speech or language service. It is null unless the "
            "report is by VENDOR."
        )
    )
    model_name: str | None = strawberry.field(
        description="This is the vendor's model. It is null unless the report is by VENDOR and the vendor has models."
    )
    egress_minutes: float = strawberry.field(description="This is the duration of all egresses in minutes.")
    transcribed_minutes: float = strawberry.field(
        description="This is the duration of the sound that the speech service transcribed, in minutes."
    )
    stored_gb_months: float = strawberry.field(
        description="These are the stored gigabytes, each counted for the months of 30 days in which it was stored."
    )
    input_token_count: BigInt = strawberry.field(
        description="This many tokens were read by language models, including those from a prompt cache."
    )
    cached_token_count: BigInt = strawberry.field(
        description="This many tokens were read from a prompt cache."
    )
    output_token_count: BigInt = strawberry.field(
        description="This many tokens were written by language models."
    )
    egress_usd: float = strawberry.field(description="This is the cost of the egresses in US dollars.")
    speech_usd: float = strawberry.field(description="This is the cost of transcription in US dollars.")
    storage_usd: float = strawberry.field(description="This is the cost of storage in US dollars.")
    language_usd: float = strawberry.field(description="This is the cost of language models in US dollars.")
    total_usd: float = strawberry.field(description="This is the sum of these costs in US dollars.")

    @classmethod
    def of(cls, group: model.CostGroup) -> Self:
        return cls(
            starts_on=group.month,
            doctor=None if group.doctor_id is None else User(id=to_id(group.doctor_id)),
            vendor=group.vendor,
            model_name=group.model or None,
            egress_minutes=group.egress_minutes,
            transcribed_minutes=group.transcribed_minutes,
            stored_gb_months=group.stored_gb_months,
            input_token_count=BigInt(group.input_tokens),
            cached_token_count=BigInt(group.cached_tokens),
            output_token_count=BigInt(group.output_tokens),
            egress_usd=group.egress_usd,
            speech_usd=group.speech_usd,
            storage_usd=group.storage_usd,
            language_usd=group.language_usd,
            total_usd=group.total_usd,
        )


@strawberry.type(
    description="This is what the recordings of a period cost, by group. A cost report names no patient."
)
class CostReport:
    grouping: model.CostGrouping = strawberry.field(description="The report has one group for each of these.")
    groups: list[CostReportGroup] = strawberry.field(
        description=(
            "These are the groups: months in order, and doctors and vendors with the highest costs first. There are "
            "at most 1,000."
        )
    )
    is_cut: bool = strawberry.field(description="It is true if there are more groups than the report shows.")
    total_usd: float = strawberry.field(description="This is the cost of all groups in US dollars.")
    prices: CostPrices = strawberry.field(
        description="These are the prices with which the report computes the costs."
    )

    @classmethod
    def of(cls, report: model.CostReport) -> Self:
        return cls(
            grouping=report.grouping,
            groups=[CostReportGroup.of(group) for group in report.groups],
            is_cut=report.is_cut,
            total_usd=report.total_usd,
            prices=CostPrices.of(report.prices),
        )


@strawberry.type(
    description=(
        "This is what sessions of one length cost: the egress and the transcription of one video, its storage for a "
        "month, and one request for insights."
    )
)
class CostEstimate:
    size_bytes: BigInt = strawberry.field(description="This is the expected size of one session's video.")
    input_token_count: BigInt = strawberry.field(
        description="This many tokens the language model is expected to read for one session."
    )
    output_token_count: BigInt = strawberry.field(
        description="This many tokens the language model is expected to write for one session."
    )
    egress_usd: float = strawberry.field(description="This is the cost of one session's egress.")
    speech_usd: float = strawberry.field(description="This is the cost of one session's transcription.")
    storage_usd: float = strawberry.field(
        description="This is the cost of storing one session's video for a month."
    )
    language_usd: float = strawberry.field(description="This is the cost of one session's insights.")
    session_usd: float = strawberry.field(description="This is the cost of one session in US dollars.")
    month_usd: float = strawberry.field(description="This is the cost of a month's sessions in US dollars.")
    prices: CostPrices = strawberry.field(
        description="These are the prices with which the estimate computes the costs."
    )

    @classmethod
    def of(cls, made: model.CostEstimate) -> Self:
        return cls(
            size_bytes=BigInt(made.size_bytes),
            input_token_count=BigInt(made.input_tokens),
            output_token_count=BigInt(made.output_tokens),
            egress_usd=made.egress_usd,
            speech_usd=made.speech_usd,
            storage_usd=made.storage_usd,
            language_usd=made.language_usd,
            session_usd=made.session_usd,
            month_usd=made.month_usd,
            prices=CostPrices.of(made.prices),
        )


@strawberry.type(
    description=(
        "This is how many tokens language models may use for one doctor on one day. The budget bounds insights, "
        "questions and note drafts alone."
    )
)
class LanguageBudget:
    doctor: User = strawberry.field(description="This is the doctor whose recordings the budget is for.")
    lifted_on: date = strawberry.field(
        description=f"{_DAY} on which a compliance officer lifted the budget. No budget bounds this day."
    )
    daily_token_count: BigInt = strawberry.field(description="This many tokens are the budget of a day.")
    used_token_count: BigInt = strawberry.field(
        description="This many tokens the language models have used on this day."
    )

    @classmethod
    def of(cls, budget: LiftedBudget) -> Self:
        return cls(
            doctor=User(id=to_id(budget.doctor_id)),
            lifted_on=budget.day,
            daily_token_count=BigInt(budget.tokens_per_day),
            used_token_count=BigInt(budget.used_tokens),
        )


@strawberry.input(
    description="With this input, a compliance officer lifts the budget of a doctor for today (UTC)."
)
class LiftLanguageBudgetInput:
    doctor_id: strawberry.ID = strawberry.field(description="This is the id of the doctor's login.")


@strawberry.type(description="`liftLanguageBudget` returns this payload.")
class LiftLanguageBudgetPayload:
    language_budget: LanguageBudget = strawberry.field(
        description="This is the doctor's budget, which is lifted for today."
    )


async def cost_report(
    info: Info,
    since: Annotated[date, strawberry.argument(description="This is the first day (UTC) of the report.")],
    until: Annotated[
        date,
        strawberry.argument(description="The report ends before this day (UTC), at most 1,830 days later."),
    ],
    group_by: Annotated[
        model.CostGrouping, strawberry.argument(description="The report has one group for each of these.")
    ],
) -> CostReport | None:
    """Return what the recordings cost on the days from `since` to before `until`."""
    costs = info.context.services.costs
    return CostReport.of(await costs.report(await info.context.asker(), since, until, group_by))


async def cost_estimate(
    info: Info,
    minutes: Annotated[
        int, strawberry.argument(description="This is the duration of a session in minutes, from 0 to 1,440.")
    ],
    sessions_per_month: Annotated[
        int,
        strawberry.argument(description="This many sessions take place in a month, from 0 to 1,000,000."),
    ],
) -> CostEstimate | None:
    """Return what sessions of this length cost."""
    costs = info.context.services.costs
    return CostEstimate.of(await costs.estimate(await info.context.asker(), minutes, sessions_per_month))


async def lift_language_budget(
    info: Info, input: LiftLanguageBudgetInput
) -> LiftLanguageBudgetPayload | None:
    """Lift the budget of a doctor for today."""
    costs = info.context.services.costs
    lifted = await costs.lift_language_budget(await info.context.asker(), parse_id(input.doctor_id))
    return LiftLanguageBudgetPayload(language_budget=LanguageBudget.of(lifted))
