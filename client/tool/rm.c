/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage rm: removes a disk, and all that is on it. */

#include <config.h>

#include "client.h"

static int
run_rm (const struct invocation *inv)
{
  json_t *name = client_name (inv->args[0]);
  json_t *answer;

  if (name == NULL)
    return STATUS_USAGE;
  answer = client_ask (inv, json_pack ("{s:s, s:o, s:b}", "cmd", "rm", "name",
                                       name, "force", given (inv, OPT_FORCE)));
  if (answer == NULL)
    return STATUS_NO;
  json_decref (answer);
  return 0;
}

const struct command command_rm = {
  .name = "rm",
  .args = "NAME",
  .summary = "remove a disk and what is on it",
  .options = OPT_BIT (OPT_FORCE),
  .min_args = 1,
  .max_args = 1,
  .run = run_rm,
};
