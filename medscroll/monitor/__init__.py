"""Watching a run: events, probes, communication analysis, stragglers and stalls. Reads run folders, imports nothing above.

    schema   names and fields of what a run writes           log        append-only event files, bounded, crash-safe
"""
