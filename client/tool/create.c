/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage create: makes a named disk. */

#include <config.h>

#include "client.h"
#include "print.h"

static int
run_create (const struct invocation *inv)
{
  json_t *request, *answer;
  json_int_t bytes;
  int status = client_size (inv, inv->args[1], &bytes);

  if (status != 0)
    return status;
  request = client_name (inv->args[0]);
  if (request == NULL)
    return STATUS_USAGE;
  request =
      json_pack ("{s:s, s:o, s:I, s:b, s:b}", "cmd", "create", "name", request,
                 "size", bytes, "reserve", given (inv, OPT_RESERVE), "shared",
                 given (inv, OPT_SHARED));
  answer = client_ask (inv, request);
  if (answer == NULL)
    return STATUS_NO;
  if (given (inv, OPT_JSON))
    print_json (answer, false);
  json_decref (answer);
  return 0;
}

const struct command command_create = {
  .name = "create",
  .args = "NAME SIZE",
  .summary = "make a disk",
  .options = OPT_BIT (OPT_RESERVE) | OPT_BIT (OPT_SHARED) | OPT_BIT (OPT_JSON),
  .min_args = 2,
  .max_args = 2,
  .run = run_create,
};
