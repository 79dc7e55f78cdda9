"""A network laboratory: hosts as network namespaces on a bridge that snoops IGMP, for the demo and the tests.

`with Laboratory(("alpha", "beta")) as laboratory: laboratory["alpha"].popen([...])`. See `namespaces.Laboratory`.
Only the standard library, iproute2 and nftables are needed.
"""
