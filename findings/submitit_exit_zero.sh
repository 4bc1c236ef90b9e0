#!/usr/bin/env bash
# A job ends with sys.exit(0), as the main() of many training scripts does. One would guess that it
# counts as done, with the result None.
# submitit writes the result only after the function returns, and sys.exit is not caught. So
# result() waits a while and then raises UncompletedJobError. The state tells nothing: it is
# FINISHED for this job, for one that raised, and for one that worked.
# Hurts: whoever wraps scripts in submitit and takes the error, or the state, for the outcome.
source "$(dirname "$0")/lib.sh"
install submitit==1.5.4
cat > "$work/jobs.py" << 'PYTHON'
import sys


def returns():
    return 0


def raises():
    raise ValueError("on purpose")


def exits():
    sys.exit(0)
PYTHON
run << 'PYTHON'
import jobs
import submitit

executor = submitit.AutoExecutor(folder="log", cluster="local")
for function in (jobs.returns, jobs.raises, jobs.exits):
    job = executor.submit(function)
    try:
        outcome = repr(job.result())
    except Exception as error:
        outcome = type(error).__name__
    print(f"{function.__name__}: {outcome}, state {job.state}")
PYTHON
expect << 'OUTPUT'
returns: 0, state FINISHED
raises: FailedJobError, state FINISHED
exits: UncompletedJobError, state FINISHED
OUTPUT
