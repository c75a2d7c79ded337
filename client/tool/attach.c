/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage attach: an export becomes a block device of this machine, by the
 * kernel's nbd driver, and if wanted its swap.
 *
 *   look ─▶ dial ─▶ connect ─▶ settings ─▶ (mkswap ─▶ swapon) ─▶ (watch)
 *
 * What was done is undone when a later step fails: the device is there as it
 * was asked for, or not at all.
 *
 * The settings are for a device whose server may be away for a while: a request
 * that a dead socket took with it is found by a timer of the block layer and,
 * with one connection and no timeout of the driver's own, nothing is done to a
 * socket that is merely slow.  A request is looked at io_timeout after it was
 * sent, and then each time io_timeout and a second later, which is the block
 * layer's own: the third look is to come soon after a connection that was
 * silent for WATCH_TIMEOUT_MS has been made again.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <linux/nbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "print.h"
#include "progress.h"
#include "watch.h"

#include "tool.h"

#define LOOK_MS        10000u
#define FOREVER_S      UINT64_C (100000000) /* the driver's timer takes it */
#define SWAP_BYTES_MIN (40u << 10)
#define LABEL_MAX      15u /* bytes, of a swap area */

struct attach {
  const struct invocation *inv;
  const char *uri;
  struct attached a;
  int swap_flags;
};

/* ---- what is given ---- */

static int
take_priority (const struct invocation *inv, int *flags)
{
  const char *text = inv->value[OPT_PRIORITY];
  char *end;
  long n;

  if (text == NULL)
    return 0;
  n = strtol (text, &end, 10);
  if (*end != '\0' || n < 0 || n > SWAP_FLAG_PRIO_MASK)
    return complain_usage (inv->command, "'%s' is no priority (0 to %d)", text,
                           SWAP_FLAG_PRIO_MASK);
  *flags |= SWAP_FLAG_PREFER | ((int) n << SWAP_FLAG_PRIO_SHIFT);
  return 0;
}

static int
take_discard (const struct invocation *inv, int *flags)
{
  /* of <linux/swap.h>, which programs do not have */
  enum {
    DISCARD = 0x10000,
    ONCE = 0x20000,
    PAGES = 0x40000
  };
  const char *text = inv->value[OPT_DISCARD];

  if (text == NULL || strcmp (text, "both") == 0)
    *flags |= DISCARD;
  else if (strcmp (text, "once") == 0)
    *flags |= DISCARD | ONCE;
  else if (strcmp (text, "pages") == 0)
    *flags |= DISCARD | PAGES;
  else if (strcmp (text, "no") != 0)
    return complain_usage (inv->command,
                           "--discard is one of no, once, pages, both");
  return 0;
}

static int
take_connections (const struct invocation *inv, unsigned *nr)
{
  const char *text = inv->value[OPT_CONNECTIONS];
  char *end;
  unsigned long n;

  *nr = 1;
  if (text == NULL)
    return 0;
  n = strtoul (text, &end, 10);
  if (*text < '0' || *text > '9' || *end != '\0' || n < 1 ||
      n > EXPORT_CONNS_MAX)
    return complain_usage (inv->command, "--connections is 1 to %u",
                           EXPORT_CONNS_MAX);
  *nr = (unsigned) n;
  if (n > 1 && given (inv, OPT_SWAP))
    return complain_usage (inv->command,
                           "swap has one connection: with several the kernel "
                           "kills those that are slow");
  return 0;
}

static int
take_swap (const struct invocation *inv, int *flags)
{
  static const enum option_id of_swap[] = { OPT_LABEL, OPT_PRIORITY,
                                            OPT_DISCARD, OPT_FORCE };
  const char *label = inv->value[OPT_LABEL];
  int err;

  if (!given (inv, OPT_SWAP)) {
    for (size_t i = 0; i < sizeof of_swap / sizeof of_swap[0]; i++)
      if (given (inv, of_swap[i]))
        return complain_usage (inv->command, "--%s is for --swap",
                               options[of_swap[i]].name);
    return 0;
  }
  if (label != NULL && strlen (label) > LABEL_MAX)
    return complain_usage (inv->command, "a label has at most %u bytes",
                           LABEL_MAX);
  err = take_priority (inv, flags);
  return err ? err : take_discard (inv, flags);
}

/* 0, or the exit status. */
static int
take_arguments (struct attach *t)
{
  const struct invocation *inv = t->inv;
  int status = take_connections (inv, &t->a.nr);

  t->uri = inv->args[0];
  t->a.dev.index = -1;
  if (status == 0)
    status = take_swap (inv, &t->swap_flags);
  if (status != 0)
    return status;
  if ((given (inv, OPT_BACKGROUND) || given (inv, OPT_UNVERIFIED)) &&
      !given (inv, OPT_PERSIST))
    return complain_usage (inv->command, "--%s is for --persist",
                           given (inv, OPT_BACKGROUND) ? "background"
                                                       : "unverified");
  if (strncmp (t->uri, "nbds", 4) == 0)
    return complain_usage (
        inv->command,
        "the kernel's driver has no TLS: tunnel the connection (WireGuard), "
        "and give an nbd:// URI");
  if (inv->nr_args > 1) {
    t->a.dev.index = device_index (inv->args[1]);
    if (t->a.dev.index < 0)
      return complain_usage (inv->command, "'%s' is no /dev/nbdN",
                             inv->args[1]);
  }
  return 0;
}

/* ---- the export ---- */

static bool
refuse (const struct attach *t, const char *what)
{
  complain (t->uri, "%s", what);
  return false;
}

/* Can it be what is wanted? */
static bool
is_fit (const struct attach *t)
{
  const struct export *e = &t->a.export;
  const bool swap = given (t->inv, OPT_SWAP);

  if (e->size_bytes < KERNEL_BLOCK_BYTES)
    return refuse (t, "it is smaller than a block of 4096 bytes");
  if (swap && e->size_bytes < SWAP_BYTES_MIN)
    return refuse (t, "it is too small for a swap area (40 KiB at least)");
  if (swap && (e->flags & NBD_FLAG_READ_ONLY) != 0)
    return refuse (t, "it is read-only here (another client has it, or it was "
                      "made so), and cannot be swap");
  if (t->a.nr > 1 && (e->flags & NBD_FLAG_CAN_MULTI_CONN) == 0)
    return refuse (t, "the server does not say that several connections see "
                      "the same (give one)");
  if (given (t->inv, OPT_PERSIST) && e->instance[0] == '\0' &&
      !given (t->inv, OPT_UNVERIFIED))
    return refuse (t, "the server tells no instance, so that nobody knows what "
                      "it has when it comes back (--unverified trusts it)");
  if (e->size_bytes % KERNEL_BLOCK_BYTES != 0)
    complain (t->uri, "its last %u bytes cannot be reached: blocks have 4096",
              (unsigned) (e->size_bytes % KERNEL_BLOCK_BYTES));
  return true;
}

static bool
open_export (struct attach *t)
{
  struct export *e = &t->a.export;
  int err;

  progress_step ("looking at the export");
  err = export_look (e, t->uri, LOOK_MS);
  if (err == 0 && !is_fit (t))
    return false;
  if (err == 0) {
    progress_step ("connecting");
    err = export_dial (e, t->a.nr, LOOK_MS,
                       given (t->inv, OPT_PERSIST) ? WATCH_TIMEOUT_MS : 0,
                       t->a.fd);
  }
  if (err)
    complain (t->uri, "%s", e->why);
  return err == 0;
}

/* ---- the device ---- */

static void
close_sockets (struct attach *t)
{
  for (unsigned i = 0; i < t->a.nr; i++)
    close (t->a.fd[i]);
}

static bool
open_kernel (struct attach *t)
{
  int err = kernel_open (&t->a.kernel);

  if (err == ENOENT)
    complain (NULL, "the kernel's nbd driver is not there (as root: modprobe "
                    "nbd)");
  else if (err)
    complain (NULL, "the kernel's nbd driver cannot be asked: %s",
              strerror (err));
  return err == 0;
}

static bool
connect_device (struct attach *t)
{
  const struct export *e = &t->a.export;
  struct kernel_device *dev = &t->a.dev;
  char backend[2 * EXPORT_HEX + 16];
  int err;

  snprintf (backend, sizeof backend, "farpage %s",
            e->instance[0] != '\0' ? e->instance : e->session);
  dev->size_bytes = kernel_bytes (e->size_bytes);
  dev->flags = e->flags;
  dev->dead_seconds = e->linger_seconds > 0 ? e->linger_seconds : FOREVER_S;
  dev->backend = strdup (backend);
  if (dev->backend == NULL)
    err = ENOMEM;
  else if (dev->index >= 0 && device_is_attached (dev->index))
    err = EBUSY;
  else
    err = kernel_connect (t->a.kernel, dev, t->a.fd, t->a.nr);
  if (err) {
    complain (t->inv->nr_args > 1 ? t->inv->args[1] : "/dev/nbd", "%s",
              err == EBUSY ? "it is attached already ('farpage detach' it, or "
                             "take another)"
              : err == EPERM ? "only root may attach"
                             : strerror (err));
    return false;
  }
  device_path (dev->index, t->a.path);
  return true;
}

static void
set_device (const struct attach *t, const char *name, const char *value)
{
  int err = device_set (t->a.dev.index, name, value);

  if (err)
    complain (t->a.path, "queue/%s is not %s: %s", name, value, strerror (err));
}

static void
set_up (const struct attach *t)
{
  set_device (t, "scheduler", "none");
  set_device (t, "max_sectors_kb", "1024");
  if (t->a.nr == 1)
    set_device (t, "io_timeout", "700");
}

/* ---- swap ---- */

static bool
make_swap (const struct attach *t)
{
  const char *label = t->inv->value[OPT_LABEL];
  const char *const argv[] = { "mkswap", "--label",
                               label != NULL ? label : "farpage", t->a.path,
                               NULL };
  char content[DEVICE_PATH_MAX];
  int err = device_content (t->a.dev.index, content);

  if (err) {
    complain (t->a.path, "what is on it cannot be read: %s", strerror (err));
    return false;
  }
  if (content[0] != '\0' && strcmp (content, "swap") != 0 &&
      !given (t->inv, OPT_FORCE)) {
    complain (t->a.path, "it holds %s (--force overwrites it)", content);
    return false;
  }
  switch (device_run (argv)) {
  case 0:
    return true;
  case -1:
    complain ("mkswap", "it cannot be run (Debian: apt-get install "
                        "util-linux)");
    return false;
  default:
    complain (t->a.path, "mkswap failed");
    return false;
  }
}

static bool
use_swap (const struct attach *t)
{
  progress_step ("making the swap area");
  if (!make_swap (t))
    return false;
  if (swapon (t->a.path, t->swap_flags) == 0)
    return true;
  complain (t->a.path, "swapon: %s", strerror (errno));
  return false;
}

/* ---- all of it ---- */

static bool
attach (struct attach *t)
{
  if ((given (t->inv, OPT_PERSIST) && !watch_is_possible ()) ||
      !open_kernel (t) || !open_export (t))
    return false;
  progress_step ("making the device");
  if (!connect_device (t)) {
    close_sockets (t);
    return false;
  }
  set_up (t);
  if (!given (t->inv, OPT_SWAP) || use_swap (t))
    return true;
  close_sockets (t);
  kernel_disconnect (t->a.kernel, t->a.dev.index);
  return false;
}

static void
print_attached (const struct attach *t)
{
  const struct export *e = &t->a.export;
  const bool swap = given (t->inv, OPT_SWAP);

  if (!given (t->inv, OPT_JSON)) {
    printf ("%s\n", t->a.path);
    return;
  }
  json_t *json =
      json_pack ("{s:s, s:s, s:I, s:i, s:b, s:b, s:b, s:s*, s:I}", "device",
                 t->a.path, "uri", t->uri, "size_bytes",
                 (json_int_t) t->a.dev.size_bytes, "connections", (int) t->a.nr,
                 "readonly", (e->flags & NBD_FLAG_READ_ONLY) != 0, "swap", swap,
                 "persist", given (t->inv, OPT_PERSIST), "instance",
                 e->instance[0] != '\0' ? e->instance : NULL, "dead_seconds",
                 (json_int_t) t->a.dev.dead_seconds);

  print_json (json, false);
  json_decref (json);
}

/* False: this is the process that was called, and its work is done. */
static bool
go_to_background (void)
{
  pid_t pid;

  fflush (stdout);
  pid = fork ();
  if (pid < 0)
    complain (NULL, "it stays in the foreground: %s", strerror (errno));
  if (pid != 0)
    return pid < 0;
  setsid ();
  if (chdir ("/") != 0 || freopen ("/dev/null", "r", stdin) == NULL ||
      freopen ("/dev/null", "w", stdout) == NULL)
    complain (NULL, "in the background: %s", strerror (errno));
  return true;
}

static int
run_attach (const struct invocation *inv)
{
  struct attach t = { .inv = inv };
  int status = take_arguments (&t);
  bool ok;

  if (status != 0)
    return status;
  progress_steps ("attach", given (inv, OPT_SWAP) ? 4 : 3);
  ok = attach (&t);
  progress_end ();
  status = ok ? 0 : STATUS_NO;
  if (ok) {
    print_attached (&t);
    if (given (inv, OPT_PERSIST) &&
        (!given (inv, OPT_BACKGROUND) || go_to_background ())) {
      fflush (stdout);
      status = watch_run (&t.a);
    }
  }
  kernel_close (t.a.kernel);
  free ((char *) t.a.dev.backend);
  return status;
}

const struct command command_attach = {
  .name = "attach",
  .args = "URI [/dev/nbdN]",
  .summary = "make an export a device of this machine",
  .options = OPT_BIT (OPT_SWAP) | OPT_BIT (OPT_LABEL) | OPT_BIT (OPT_PRIORITY) |
             OPT_BIT (OPT_DISCARD) | OPT_BIT (OPT_FORCE) |
             OPT_BIT (OPT_CONNECTIONS) | OPT_BIT (OPT_PERSIST) |
             OPT_BIT (OPT_BACKGROUND) | OPT_BIT (OPT_UNVERIFIED) |
             OPT_BIT (OPT_JSON),
  .min_args = 1,
  .max_args = 2,
  .offline = true,
  .run = run_attach,
};
