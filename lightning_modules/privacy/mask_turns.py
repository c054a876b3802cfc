"""What a site may still answer and open, so that no sum can be taken from another.

Two sums of the same round over different sets differ by single sites' updates, and two answers
under the same masks by what changed between them. A site therefore goes forward only: it answers
each round and set of sites once (or again with the very same words), sets only shrink, and it
opens one set in each round. Whoever opened a round answers no other set in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lightning_modules.privacy.pairwise_masks import LEAST_SITES, MaskError, MaskRound


@dataclass(frozen=True)
class MaskTurn:
    """The last answer of a site in a job.

    Attributes:
        number: its round; -1 before the first.
        sites: the set of sites that it was masked for.
        digest: of the words that were sent; empty while the round is being trained.
        opened: whether the site has given away its opening.
    """

    number: int = -1
    sites: tuple[str, ...] = ()
    digest: str = ""
    opened: bool = False


def check_turn(before: MaskTurn, asked: MaskRound, site: str, least: int = LEAST_SITES) -> None:
    """Refuse to be part of a sum that could tell what a site sent.

    Args:
        before: the site's last answer; for the first one it holds the sites of the key exchange.
        asked: the round and the set that the server asks for.
        site: the site that is asked.
        least: the fewest sites that it agrees to.

    Raises:
        MaskError: saying why.
    """
    if len(asked.sites) < max(least, LEAST_SITES):
        raise MaskError(
            f"round {asked.number} is to be a sum over {len(asked.sites)} sites, and this site "
            f"agrees to {max(least, LEAST_SITES)} or more"
        )
    if site not in asked.sites:
        raise MaskError(f"round {asked.number} is to be a sum without this site")
    strange = sorted(set(asked.sites) - set(before.sites))
    if strange:
        raise MaskError(
            f"site '{strange[0]}' has no part in this job's sums, or has dropped out of them"
        )
    if asked.number < before.number:
        raise MaskError(f"round {asked.number} is asked for after round {before.number}")
    if asked.number == before.number and asked.sites != before.sites and before.opened:
        raise MaskError(
            f"round {asked.number} was opened over {len(before.sites)} sites and is not opened "
            "again over others: the difference of both sums would be a site's update"
        )


def answered(
    before: MaskTurn, asked: MaskRound, site: str, digest: str, least: int = LEAST_SITES
) -> MaskTurn:
    """The turn after an answer.

    Args:
        before: the site's last answer.
        asked: the round and the set that it answers.
        site: the site.
        least: the fewest sites that it agrees to.
        digest: of the words that are to be sent.

    Raises:
        MaskError: the turn is not to be taken, or other words have gone under the same masks.
    """
    check_turn(before, asked, site, least)
    if (before.number, before.sites) == (asked.number, asked.sites):
        if before.digest not in ("", digest):
            raise MaskError(
                f"round {asked.number} has been answered with other values under the same masks; "
                "the difference of both answers would be the difference of the values"
            )
        return replace(before, digest=digest)
    return MaskTurn(asked.number, asked.sites, digest)


def opened_by(before: MaskTurn, asked: MaskRound) -> MaskTurn:
    """The turn after the site's opening of a round.

    Raises:
        MaskError: the site's last answer was for another round or set.
    """
    if not before.digest or (before.number, before.sites) != (asked.number, asked.sites):
        raise MaskError(
            f"round {asked.number} over {', '.join(asked.sites)} is not what this site answered "
            "last, so it is not opened"
        )
    return replace(before, opened=True)
