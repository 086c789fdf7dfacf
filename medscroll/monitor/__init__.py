"""Watching a run: events, probes, communication analysis, stragglers and stalls.

    schema      names and fields of what a run writes      log         event files: append-only, bounded, crash-safe
    trace       reads a Kineto trace                       overhead    communication that compute does not hide
    skew        waiting for the last rank                  probes      GPU, host, network and disk
    traffic     bytes and calls of collectives             stragglers  who is slow, in which phase
    alerts      rules                                      heartbeat   who is stalled

The package reads run folders and imports nothing above it; the hooks into training are in `medscroll.engine`.
"""

from medscroll.monitor.overhead import CommunicationOverhead, GroupOverhead, communication_overhead

__all__ = ["CommunicationOverhead", "GroupOverhead", "communication_overhead"]
