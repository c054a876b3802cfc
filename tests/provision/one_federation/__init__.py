"""One federation of real processes over TLS: what is allowed, what is refused, what faults do.

Server, north and east run once for all files of this folder, which tests/conftest.py keeps in order
and on one worker; a test leaves them running. The times after which a silent site is lost, a round
is over or a cable is joined again are seconds here. The files ``test_poc*.py`` hold the same
statements one by one, with the times of a hospital.
"""
