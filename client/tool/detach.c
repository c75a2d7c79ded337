/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage detach: a device of the nbd driver is given up, when nobody needs it.
 *
 *   swapoff ─▶ is it free? ─▶ write ─▶ who watches it ends ─▶ disconnect ─▶
 * gone
 *
 * The first step that fails ends it, and the device stays as it is.
 */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"
#include "size.h"
#include "watch.h"

#include "tool.h"

#define WAIT_MS 10000u
#define SYNC_MS 60000u
#define LOOK_MS 20u

static void
nap (void)
{
  const struct timespec ts = { .tv_nsec = LOOK_MS * 1000000 };

  nanosleep (&ts, NULL);
}

static int
call_swapoff (const char *path)
{
  return swapoff (path) == 0 ? 0 : errno;
}

/* fn (path) in a process of its own: it may take long, or never end where the
 * server is away.  Returns its errno, or ETIMEDOUT after limit_ms (0: none).
 */
static int
run_apart (int (*fn) (const char *path), const char *path, int index,
           unsigned limit_ms)
{
  int status = 0;
  pid_t pid = fork ();

  if (pid == 0)
    _exit (fn (path));
  if (pid < 0)
    return errno;
  for (unsigned ms = 0; waitpid (pid, &status, WNOHANG) == 0; ms += LOOK_MS) {
    char text[HUMAN_BYTES];
    uint64_t used;

    if (limit_ms > 0 && ms >= limit_ms)
      return ETIMEDOUT;
    if (progress_due () && device_is_swap (index, &used))
      progress_show ("swapoff %s: %s left", path, size_human (used, text));
    else if (progress_due ())
      progress_show ("writing what is not written of %s", path);
    nap ();
  }
  return WIFEXITED (status) ? WEXITSTATUS (status) : EINTR;
}

static bool
swap_off (const char *path, int index)
{
  uint64_t used;
  int err;

  if (!device_is_swap (index, &used))
    return true;
  err = run_apart (call_swapoff, path, index, 0);
  if (!device_is_swap (index, &used)) /* by somebody else, maybe */
    return true;
  if (err)
    complain (path, "swapoff: %s%s", strerror (err),
              err == ENOMEM
                  ? " (what is swapped out there has no room elsewhere)"
                  : "");
  return err == 0;
}

static bool
write_all (const char *path, int index)
{
  int err = run_apart (device_sync, path, index, SYNC_MS);

  if (err == ETIMEDOUT)
    complain (path, "the server does not take what is to be written (--force "
                    "gives it up)");
  else if (err)
    complain (path, "what is to be written: %s (--force gives it up)",
              strerror (err));
  return err == 0;
}

static bool
is_free (const char *path, int index)
{
  int err = device_is_free (index);

  if (err)
    complain (path, "%s",
              err == EBUSY ? "it is in use (unmount it, end who has it)"
                           : strerror (err));
  return err == 0;
}

/* Whoever watches it would connect it again. */
static bool
end_watch (const char *path, int index)
{
  struct watch_state st;

  watch_look (index, &st);
  if (st.pid == 0)
    return true;
  if (kill (st.pid, SIGTERM) != 0 && errno != ESRCH) {
    complain (path, "process %d watches it, and cannot be ended: %s",
              (int) st.pid, strerror (errno));
    return false;
  }
  for (unsigned ms = 0; ms < WAIT_MS; ms += LOOK_MS) {
    nap ();
    watch_look (index, &st);
    if (st.pid == 0)
      return true;
  }
  complain (path, "process %d watches it, and does not end", (int) st.pid);
  return false;
}

static bool
disconnect (const char *path, int index)
{
  struct kernel *k;
  int err = kernel_open (&k);

  if (!err) {
    err = kernel_disconnect (k, index);
    kernel_close (k);
  }
  for (unsigned ms = 0; err == 0 && device_is_attached (index); ms += LOOK_MS) {
    if (ms >= WAIT_MS)
      err = EBUSY;
    nap ();
  }
  if (err == EBUSY)
    complain (path, "it is disconnected, and somebody still has it open");
  else if (err)
    complain (path, "the driver: %s", strerror (err));
  return err == 0;
}

static int
run_detach (const struct invocation *inv)
{
  const int index = device_index (inv->args[0]);
  char path[DEVICE_PATH_MAX];
  bool ok;

  if (index < 0)
    return complain_usage (inv->command, "'%s' is no /dev/nbdN", inv->args[0]);
  device_path (index, path);
  if (!device_is_attached (index)) {
    complain (path, "it is not attached");
    return STATUS_NO;
  }
  progress_begin ("detach", 0);
  ok = swap_off (path, index) && is_free (path, index) &&
       (given (inv, OPT_FORCE) || write_all (path, index)) &&
       end_watch (path, index) && disconnect (path, index);
  progress_wipe ();
  return ok ? 0 : STATUS_NO;
}

const struct command command_detach = {
  .name = "detach",
  .args = "/dev/nbdN",
  .summary = "end the use of a device as swap, and give it up",
  .options = OPT_BIT (OPT_FORCE),
  .min_args = 1,
  .max_args = 1,
  .offline = true,
  .run = run_detach,
};
