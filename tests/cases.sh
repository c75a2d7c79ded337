# SPDX-License-Identifier: BSD-2-Clause
# Comparisons, each of which is one case; sourced by tests.  $cases is how many
# there were, $failed how many went wrong.

cases=0 failed=0

no ()
{
  echo "FAILED: $*"
  failed=$((failed + 1))
}

# is WHAT GOT WANTED
is ()
{
  cases=$((cases + 1))
  [ "$2" = "$3" ] || no "$1: got '$2', wanted '$3'"
}

# like WHAT GOT REGEX
like ()
{
  cases=$((cases + 1))
  [[ $2 =~ $3 ]] || no "$1: got '$2', wanted /$3/"
}

# unlike WHAT GOT REGEX
unlike ()
{
  cases=$((cases + 1))
  [[ $2 =~ $3 ]] && no "$1: got '$2', which has /$3/"
  return 0
}
