# Counts the tests of a log of ctest (build/Testing/Temporary/LastTest.log): ./run prints what this prints.
#   awk -v rc=STATUS [-v left_out=WHAT] -f tests/count.awk LOG
# STATUS: ctest's exit status; WHAT: tests that could not be built here, and why (counted as one that is skipped). Output: a line for every skipped test with its reason, then "N passed, M failed, K skipped".
# Exit status 1 where a test failed or none ran.
# Tests are counted, not programs: tests/support/count_tests.c tells how many a Criterion program ran. A program of another kind is
# one test. A program that died, or ran out of time, before its count is one failure.
/^[0-9]+\/[0-9]+ Testing: / {
    finish()
    program = $3
    counted = ended = p = f = s = leaks = 0
}
/^mcsam-test-count: / { counted = 1; p += $2; f += $4; s += $6 }
/^mcsam-test-skip: / { reasons[++n_reasons] = "skipped: " program ": " substr($0, 18) }
/==ERROR: LeakSanitizer/ { leaks++ } # Criterion counts a test that leaked as passed: the leak is found when its process ends
/^Test Passed\.$/ { ended = "passed" }
/^Test Failed\.$/ { ended = "failed" }
/^Unable to find executable/ { missing = 1 }
END {
    finish()
    if (rc + missing && !failed) failed = 1
    if (passed + failed == 0) {
        print "no test ran"
        failed = 1
    }
    if (left_out != "") {
        reasons[++n_reasons] = "skipped: " left_out
        skipped++
    }
    for (i = 1; i <= n_reasons; i++) print reasons[i]
    printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
    exit failed > 0
}
function finish() {
    if (program == "") return
    if (!counted) ended == "passed" ? p++ : f++
    if (leaks > p) leaks = p
    p -= leaks
    f += leaks
    if (ended != "passed" && !f) f++
    passed += p
    failed += f
    skipped += s
}
