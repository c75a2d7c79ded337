/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage ls: the disks of a server. */

#include <config.h>

#include "client.h"
#include "print.h"

static int
run_ls (const struct invocation *inv)
{
  json_t *answer = client_ask (inv, json_pack ("{s:s}", "cmd", "ls"));

  if (answer == NULL)
    return STATUS_NO;
  if (given (inv, OPT_JSON))
    print_json (answer, false);
  else
    print_objects (json_object_get (answer, "objects"));
  json_decref (answer);
  return 0;
}

const struct command command_ls = {
  .name = "ls",
  .args = "",
  .summary = "list the disks",
  .options = OPT_BIT (OPT_JSON),
  .run = run_ls,
};
