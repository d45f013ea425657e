"""`inferctl admin`: API keys, roles, tenants, limits, guardrails and the policy they make up."""

from __future__ import annotations

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.commands.admin.api_keys import api_keys
from inferflux_cli.commands.admin.audit import search
from inferflux_cli.commands.admin.guardrails import guardrails
from inferflux_cli.commands.admin.policy import generations, policy
from inferflux_cli.commands.admin.rate_limit import rate_limit
from inferflux_cli.commands.admin.roles import roles
from inferflux_cli.commands.admin.tenants import tenants
from inferflux_cli.settings import connection_options

__all__ = ["admin"]


@click.group(
    epilog=examples(
        "inferctl admin api-keys --add app --scopes generate,read",
        "inferctl admin rate-limit --set 200",
        "inferctl admin guardrails --set secret,pii",
        "inferctl admin policy --history",
    )
)
@connection_options
def admin() -> None:
    """Administer a server while it runs; what changes is in force from the next request on.

    Looking needs a key with the scope policy:read, changing one with policy:write.
    """


for _command in (
    *(api_keys, roles, tenants, rate_limit),
    *(guardrails, policy, generations, search),
):
    admin.add_command(_command)
