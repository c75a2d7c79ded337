/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage stat: what a server, or one disk of it, is doing. */

#include <config.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client.h"
#include "print.h"

static void
print_event (json_t *event, bool as_json)
{
  const char *state = json_string_value (json_object_get (event, "state"));
  char when[32];
  time_t now = time (NULL);

  if (as_json) {
    print_json (event, true);
    return;
  }
  strftime (when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime (&now));
  printf ("%s  space: %s\n", when, state != NULL ? state : "unknown");
}

/* Until the server or the reader goes away, or the user has seen enough.
 * space is what was printed; it may have changed since.
 */
static int
follow (struct client *c, const char *space, bool as_json)
{
  json_t *json = client_call (c, json_pack ("{s:s}", "cmd", "events"));
  const char *now = json_string_value (json_object_get (json, "space"));

  if (json == NULL)
    return STATUS_NO;
  if (now != NULL && strcmp (now, space) != 0) {
    json_t *event = json_pack ("{s:s, s:s}", "event", "space", "state", now);

    print_event (event, as_json);
    json_decref (event);
  }
  json_decref (json);
  while (fflush (stdout) == 0) {
    json = client_next (c);
    if (json == NULL)
      return STATUS_NO;
    print_event (json, as_json);
    json_decref (json);
  }
  return STATUS_NO; /* main tells why */
}

static int
print_and_follow (const struct invocation *inv, struct client *c, json_t *stat)
{
  const json_t *pool = json_object_get (stat, "pool");
  const char *space = json_string_value (json_object_get (pool, "space"));
  bool as_json = given (inv, OPT_JSON);

  if (as_json)
    print_json (stat, given (inv, OPT_FOLLOW));
  else if (inv->nr_args > 0)
    print_object (stat);
  else
    print_stat (stat);
  if (!given (inv, OPT_FOLLOW))
    return 0;
  return follow (c, space != NULL ? space : "", as_json);
}

static int
run_stat (const struct invocation *inv)
{
  json_t *request = json_pack ("{s:s}", "cmd", "stat");
  json_t *name = NULL, *answer;
  struct client c;
  int status;

  if (inv->nr_args > 0) {
    name = client_name (inv->args[0]);
    if (name == NULL || json_object_set_new (request, "name", name) != 0) {
      json_decref (request);
      return STATUS_USAGE;
    }
  }
  status = client_open (inv, &c);
  if (status != 0) {
    json_decref (request);
    return status;
  }
  answer = client_call (&c, request);
  status = answer == NULL ? STATUS_NO : print_and_follow (inv, &c, answer);
  json_decref (answer);
  client_close (&c);
  return status;
}

const struct command command_stat = {
  .name = "stat",
  .args = "[NAME]",
  .summary = "show what the server, or one disk, is doing",
  .options = OPT_BIT (OPT_JSON) | OPT_BIT (OPT_FOLLOW),
  .max_args = 1,
  .run = run_stat,
};
