"""What holds of interrupt, NAPI and softirq in every state and on every step, each in one sentence."""

from refmodel.nic.napi import (
    Interrupt,
    Listed,
    Napi,
    NapiParams,
    NetRxStep,
    Poll,
    PollOther,
    TimeSqueeze,
    UnmaskIrq,
    down,
)
from refmodel.rule import invariant, pure, transition


@pure
def will_poll(s: Napi, p: NapiParams) -> bool:
    """Someone has promised to look at the rings: the instance is listed, or its poll has yet to look."""
    return s.sched and (
        s.listed != Listed.NOWHERE or s.poll == Poll.DRIVER or (s.poll == Poll.RETURNED and s.work >= p.weight)
    )


@invariant()
def masked_is_polled(s: Napi) -> bool:
    """An interrupt never stays masked unless a poll is scheduled, a timer armed, the unmasking next, or it is down."""
    return not s.masked or s.sched or s.timer or s.poll == Poll.COMPLETED or down(s)


@invariant()
def work_is_seen(s: Napi, p: NapiParams) -> bool:
    """Work is never forgotten: a poll will look, or a MISSED bit is set, or the device's cause bit is."""
    return s.pending == 0 or will_poll(s, p) or (s.missed and s.sched) or s.cause or down(s)


@invariant()
def scheduled_is_somewhere(s: Napi, p: NapiParams) -> bool:
    """A scheduled instance is on a list or in its poll, unless napi_disable holds it."""
    return not s.sched or s.npsvc or will_poll(s, p) or s.poll == Poll.EMPTY


@invariant()
def listed_is_scheduled(s: Napi) -> bool:
    """An instance on a list is scheduled."""
    return s.listed == Listed.NOWHERE or (s.sched and not s.npsvc)


@invariant()
def poll_is_owned(s: Napi) -> bool:
    """One processor polls: while the driver's poll looks at the rings, SCHED is set and the instance on no list."""
    return s.poll not in (Poll.DRIVER, Poll.EMPTY) or (s.sched and s.listed == Listed.NOWHERE)


@invariant()
def polled_in_softirq(s: Napi) -> bool:
    """The poll runs inside net_rx_action, and so do its private lists."""
    return s.in_action or (s.poll == Poll.OUT and s.listed not in (Listed.TAKEN, Listed.REPOLL))


@invariant()
def not_taken_while_polled(s: Napi) -> bool:
    """An instance that was taken off the list is back only once its poll is over."""
    return s.poll == Poll.OUT or s.listed in (Listed.NOWHERE, Listed.PENDING)


@invariant(at=Poll.RETURNED)
def full_keeps_sched(s: Napi, p: NapiParams) -> bool:
    """A poll that used up its weight still owns the instance: SCHED is set, and it is on no list."""
    return s.work < p.weight or (s.sched and s.listed == Listed.NOWHERE)


@invariant()
def pending_is_raised(s: Napi) -> bool:
    """What is on the poll list will be polled: the softirq is raised, or runs and looks at the list before it ends."""
    return s.listed != Listed.PENDING or s.softirq or s.in_action


@invariant()
def flag_is_raised(s: Napi) -> bool:
    """in_net_rx_action outlasts the run only where the softirq is raised again."""
    return not s.sd_in_action or s.in_action or s.softirq


@invariant()
def old_kernels_raise(s: Napi, p: NapiParams) -> bool:
    """In 6.1 an instance on the poll list has always raised the softirq."""
    return p.kernel >= 612 or s.listed != Listed.PENDING or s.softirq


@invariant()
def flag_while_running(s: Napi) -> bool:
    """in_net_rx_action is set while net_rx_action polls."""
    return not s.in_action or s.sd_in_action


@invariant()
def polls_on_budget(s: Napi, p: NapiParams) -> bool:
    """A run overruns its budget by one poll at most: a poll begins only with budget left, a run's first one always."""
    return not s.in_action or s.budget > 0 or s.budget == p.netdev_budget


@invariant(at=(Poll.EMPTY, Poll.COMPLETED))
def completes_below_weight(s: Napi, p: NapiParams) -> bool:
    """A poll completes only if its work is less than its weight."""
    return s.work < p.weight


@invariant()
def work_within_weight(s: Napi, p: NapiParams) -> bool:
    """A poll never returns more than its weight."""
    return s.work <= p.weight


@invariant()
def disabled_is_quiet(s: Napi) -> bool:
    """A disabled instance holds SCHED, is on no list, is not polled and has no timer."""
    quiet = s.sched and not s.disable and s.poll == Poll.OUT and s.listed == Listed.NOWHERE and not s.timer
    return not s.npsvc or quiet


@invariant()
def down_is_masked(s: Napi) -> bool:
    """From napi_disable to napi_enable the interrupt is masked."""
    return not down(s) or s.masked


@transition()
def missed_not_lost(s: Napi, e: object, t: Napi) -> bool:
    """A MISSED bit is never lost: it goes only when the instance is listed for another poll."""
    return not s.missed or t.missed or (t.sched and t.listed != Listed.NOWHERE) or down(s)


@transition()
def unmasks_after_complete(s: Napi, e: object, t: Napi, effects: tuple[object, ...]) -> bool:
    """The driver unmasks only after napi_complete_done returned true, or when it comes up."""
    unmasks = any(isinstance(x, UnmaskIrq) for x in effects)
    return unmasks == (s.masked and not t.masked) or s.poll == Poll.COMPLETED or s.npsvc


@transition(NetRxStep, at=Poll.RETURNED)
def weight_is_repolled(s: Napi, e: NetRxStep, t: Napi, effects: object, p: NapiParams) -> bool:
    """Who used up the weight is polled again without an interrupt, unless napi_disable waits."""
    return s.work < p.weight or s.disable or (t.sched and t.listed != Listed.NOWHERE)


@transition(Interrupt)
def interrupt_masks(s: Napi, e: Interrupt, t: Napi) -> bool:
    """An interrupt masks itself and leaves the instance scheduled."""
    return t.masked and t.sched


@transition(NetRxStep, PollOther)
def squeeze_is_counted(s: Napi, e: NetRxStep | PollOther, t: Napi, effects: tuple[object, ...]) -> bool:
    """A run that ends with work on its own list counts a squeeze."""
    return t.in_action or s.listed != Listed.TAKEN or any(isinstance(x, TimeSqueeze) for x in effects)
