/* SPDX-License-Identifier: BSD-2-Clause */
/* The plugin's parameters: key=value from nbdkit to a store_config. */

#ifndef FARPAGE_PARAMS_H
#define FARPAGE_PARAMS_H

#include "armour.h"
#include "store.h"

extern const char params_help[];

/* One parameter, as nbdkit's .config.  -1: told by nbdkit_error. */
extern int params_set (const char *key, const char *value);
/* All are there; as nbdkit's .config_complete. */
extern int params_complete (void);
extern void params_free (void);

/* After params_complete (). */
extern const struct store_config *params_store (void);
/* As control_bind takes it: NULL the default place, "" none. */
extern const char *params_control (void);
extern enum armour_wanted params_armour (void);

#endif /* FARPAGE_PARAMS_H */
