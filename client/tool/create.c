/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage create: makes a named disk. */

#include <config.h>

#include <errno.h>

#include "client.h"
#include "print.h"
#include "size.h"

static int
run_create (const struct invocation *inv)
{
  const char *name = inv->args[0], *size = inv->args[1];
  json_t *request, *answer;
  uint64_t bytes = 0;
  int err = size_parse (size, &bytes);

  if (err == EINVAL)
    return complain_usage (inv->command,
                           "'%s' is no size: give bytes, or a number with one "
                           "of K M G T P E",
                           size);
  if (err != 0 || bytes == 0)
    return complain_usage (inv->command, "'%s': a disk has 1 byte to 1P", size);
  request = client_name (name);
  if (request == NULL)
    return STATUS_USAGE;
  request =
      json_pack ("{s:s, s:o, s:I, s:b, s:b}", "cmd", "create", "name", request,
                 "size", (json_int_t) bytes, "reserve",
                 given (inv, OPT_RESERVE), "shared", given (inv, OPT_SHARED));
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
