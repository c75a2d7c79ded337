/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage grow: a device that is watched gets the size that its export has now.
 *
 *   SIGHUP ─▶ the watcher connects again, and asks the driver ─▶ what it says
 *
 * A connection keeps the end that it was told when it was made, so new ones
 * come first; for that moment the device waits.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "print.h"
#include "progress.h"
#include "size.h"
#include "watch.h"

#include "tool.h"

#define WAIT_MS 30000u
#define LOOK_MS 20u

/* The next state of the watcher that st is of.  False: it has ended, or the
 * time is over.
 */
static bool
wait_for_next (int index, struct watch_state *st)
{
  const struct timespec pause = { .tv_nsec = LOOK_MS * 1000000 };
  const struct watch_state was = *st;

  for (unsigned ms = 0; ms < WAIT_MS; ms += LOOK_MS) {
    watch_look (index, st);
    if (st->pid != was.pid || st->generation != was.generation)
      return st->pid == was.pid;
    if (progress_due ())
      progress_show ("waiting for the server");
    nanosleep (&pause, NULL);
  }
  return false;
}

static void
print_grown (const struct invocation *inv, const char *path, uint64_t was_bytes,
             uint64_t size_bytes)
{
  char text[HUMAN_BYTES];

  if (!given (inv, OPT_JSON)) {
    printf ("%s: %s%s\n", path, size_human (size_bytes, text),
            size_bytes == was_bytes ? ", as before" : "");
    return;
  }
  json_t *json =
      json_pack ("{s:s, s:I, s:I}", "device", path, "was_bytes",
                 (json_int_t) was_bytes, "size_bytes", (json_int_t) size_bytes);

  print_json (json, false);
  json_decref (json);
}

static int
run_grow (const struct invocation *inv)
{
  const int index = device_index (inv->args[0]);
  char path[DEVICE_PATH_MAX];
  struct watch_state st;
  uint64_t was_bytes;
  bool ok;

  if (index < 0)
    return complain_usage (inv->command, "'%s' is no /dev/nbdN", inv->args[0]);
  device_path (index, path);
  watch_look (index, &st);
  if (!device_is_attached (index))
    complain (path, "it is not attached");
  else if (st.pid == 0)
    complain (path,
              "nobody watches it, so it has the size that it was attached "
              "with (attach it with --persist)");
  if (!device_is_attached (index) || st.pid == 0)
    return STATUS_NO;

  progress_begin ("grow", 0);
  ok = st.generation > 0 || wait_for_next (index, &st);
  was_bytes = st.size_bytes;
  if (ok && kill (st.pid, SIGHUP) != 0) {
    progress_wipe ();
    complain (path, "process %d watches it, and cannot be told: %s",
              (int) st.pid, strerror (errno));
    return STATUS_NO;
  }
  ok = ok && wait_for_next (index, &st);
  progress_wipe ();
  if (!ok) {
    complain (path, "%s",
              st.pid == 0 ? "who watches it has ended"
                          : "it is not connected again after 30 s, and waits "
                            "for its server");
    return STATUS_NO;
  }
  print_grown (inv, path, was_bytes, st.size_bytes);
  return 0;
}

const struct command command_grow = {
  .name = "grow",
  .args = "/dev/nbdN",
  .summary = "give a device the size that its export has now",
  .options = OPT_BIT (OPT_JSON),
  .min_args = 1,
  .max_args = 1,
  .offline = true,
  .run = run_grow,
};
