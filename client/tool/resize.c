/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage resize: gives a disk another size. */

#include <config.h>

#include "client.h"

static int
run_resize (const struct invocation *inv)
{
  json_t *name, *answer;
  json_int_t bytes;
  int status = client_size (inv, inv->args[1], &bytes);

  if (status != 0)
    return status;
  name = client_name (inv->args[0]);
  if (name == NULL)
    return STATUS_USAGE;
  answer = client_ask (inv, json_pack ("{s:s, s:o, s:I}", "cmd", "resize",
                                       "name", name, "size", bytes));
  if (answer == NULL)
    return STATUS_NO;
  json_decref (answer);
  return 0;
}

const struct command command_resize = {
  .name = "resize",
  .args = "NAME SIZE",
  .summary = "make a disk larger, or smaller if no client has it open",
  .min_args = 2,
  .max_args = 2,
  .run = run_resize,
};
