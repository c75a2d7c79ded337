/* SPDX-License-Identifier: BSD-2-Clause */
/* The switches of base/sabotage.h: which one is on, and their names. */

#include <config.h>

#include "switches.h"

#include <string.h>

enum sabotage sabotage_on;

static const char *const names[SABOTAGE_NR] = { [SABOTAGE_NONE] = "none",
#define NAME(name, rule) [SABOTAGE_##name] = #name,
                                                SABOTAGES (NAME)
#undef NAME
};

static const char *const rules[SABOTAGE_NR] = { [SABOTAGE_NONE] =
                                                    "no rule is broken",
#define RULE(name, rule) [SABOTAGE_##name] = rule,
                                                SABOTAGES (RULE)
#undef RULE
};

const char *
sabotage_name (enum sabotage sabotage)
{
  return names[sabotage];
}

const char *
sabotage_rule (enum sabotage sabotage)
{
  return rules[sabotage];
}

enum sabotage
sabotage_find (const char *name)
{
  for (unsigned i = 0; i < SABOTAGE_NR; i++)
    if (strcmp (names[i], name) == 0)
      return (enum sabotage) i;
  return SABOTAGE_NR;
}
