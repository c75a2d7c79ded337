/* SPDX-License-Identifier: BSD-2-Clause */
/* The names of base/sabotage.h's switches. */

#ifndef FARPAGE_CRASH_SWITCHES_H
#define FARPAGE_CRASH_SWITCHES_H

#include "sabotage.h"

extern const char *sabotage_name (enum sabotage sabotage);
extern const char *sabotage_rule (enum sabotage sabotage);
extern enum sabotage sabotage_find (const char *name); /* SABOTAGE_NR: none */

#endif /* FARPAGE_CRASH_SWITCHES_H */
