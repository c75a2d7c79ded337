/* SPDX-License-Identifier: BSD-2-Clause */
/* The plugin's parameters; see params.h and nbdkit-farpage-plugin.1.
 *
 * A table of keys; each value is checked here, once, so that the store is
 * given numbers that make sense.  State of the process, as nbdkit has it: one
 * plugin, configured before any thread runs.
 */

#include <config.h>

#include "params.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "env.h"
#include "size.h"
#include "volume.h"

#define CACHE_BYTES_MIN    (UINT64_C (1) << 20)
#define LOCK_WAIT_S        30
#define LINGER_S           600
#define LINGER_UNWRITTEN_S 10
#define LINGER_S_MAX       UINT64_C (100000000)

const char params_help[] =
    "[volume=]PATH|mem:SIZE  (required, repeatable) a file, block device or\n"
    "                        memory for the pool\n"
    "durability=flush|strict|volatile\n"
    "                        what outlives the server (default flush on PATHs\n"
    "                        made by 'farpage format', volatile with mem:)\n"
    "cache=SIZE              memory for buffers of a durable store (64M)\n"
    "staging=DIR             where a killed server leaves what it had not\n"
    "                        written, on tmpfs (default /run/farpage, else\n"
    "                        /dev/shm/farpage);\n"
    "                        staging= for none\n"
    "swap-keep=yes|no        swap/ID outlive the server as disks do (no)\n"
    "readonly=yes|no         write nothing at all (no)\n"
    "discard=auto|on|off     give what becomes free back to the medium (auto:\n"
    "                        on block devices, and with sparse=yes)\n"
    "control=SOCKET          control socket; control= for none\n"
    "                        (default $XDG_RUNTIME_DIR/farpage/PID.sock, else\n"
    "                        /run/farpage/PID.sock)\n"
    "swap-size=SIZE          size of exports named swap/ID\n"
    "reserve=yes|no          space set aside for whole disks\n"
    "                        (default yes for swap/, no for named)\n"
    "linger=SECONDS          keep swap/ID after the last close (default 600)\n"
    "default=NAME            what the empty export name means\n"
    "sparse=yes|no           do not allocate volumes at start (default no)\n"
    "force=yes|no            overwrite what a volume holds (default no)\n"
    "direct=auto|yes|no      past the page cache (default auto)\n"
    "armour=auto|yes|no      memory locked, no I/O to find more, no OOM kill\n"
    "                        (auto: as far as the rights for it go; yes: or\n"
    "                        do not start)";

static struct {
  struct store_volume_config volumes[VOLUMES_MAX];
  char *paths[VOLUMES_MAX];
  bool has_durability;
  char *staging;
  char *control;
  char *default_name;
  enum armour_wanted armour;
  struct store_config store;
} params = {
  .store = {
    .reserve = -1,
    .linger_ns = LINGER_S * NS_PER_S,
    .linger_unwritten_ns = LINGER_UNWRITTEN_S * NS_PER_S,
    .lock_wait_ns = LOCK_WAIT_S * NS_PER_S,
    .cache_bytes = CACHE_BYTES,
  },
};

static int
set_size (const char *key, const char *value, uint64_t *bytes)
{
  int err = size_parse (value, bytes);

  if (err == 0 && *bytes > 0)
    return 0;
  nbdkit_error ("%s: '%s' is not a size (say a number above 0 and K, M, G or "
                "T, as in 10G)",
                key, value);
  return -1;
}

static int
set_bool (const char *key, const char *value, bool *to)
{
  int r = nbdkit_parse_bool (value);

  if (r < 0) {
    nbdkit_error ("%s: say %s=yes or %s=no", key, key, key);
    return -1;
  }
  *to = r;
  return 0;
}

static int
set_string (const char *value, char **to)
{
  free (*to);
  *to = strdup (value);
  if (*to == NULL) {
    nbdkit_error ("strdup: %m");
    return -1;
  }
  return 0;
}

static int
set_volume (const char *value)
{
  unsigned i = params.store.nr_volumes;
  struct store_volume_config *vc = &params.volumes[i];

  if (i == VOLUMES_MAX) {
    nbdkit_error ("volume: at most %u volumes", VOLUMES_MAX);
    return -1;
  }
  if (strncmp (value, "mem:", 4) == 0) {
    if (set_size ("volume=mem:", value + 4, &vc->size_bytes) < 0)
      return -1;
    if (vc->size_bytes < VOLUME_BYTES_MIN) {
      nbdkit_error ("volume=%s: too small (say mem:%uK or more)", value,
                    VOLUME_BYTES_MIN / 1024);
      return -1;
    }
  } else if (value[0] == '\0') {
    nbdkit_error ("volume: the path is empty (say mem:1G for memory, or the "
                  "path of a file or block device)");
    return -1;
  } else {
    /* nbdkit goes to / before it serves. */
    params.paths[i] = nbdkit_absolute_path (value);
    if (params.paths[i] == NULL)
      return -1;
    vc->path = params.paths[i];
  }
  params.store.nr_volumes++;
  return 0;
}

static int
set_durability (const char *value)
{
  static const char *const names[] = {
    [STORE_VOLATILE] = "volatile",
    [STORE_FLUSH] = "flush",
    [STORE_STRICT] = "strict",
  };

  for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp (value, names[i]) == 0) {
      params.store.durability = (enum store_durability) i;
      params.has_durability = true;
      return 0;
    }
  nbdkit_error ("durability=%s: there is no such thing (say flush, strict or "
                "volatile)",
                value);
  return -1;
}

static int
set_cache (const char *value)
{
  if (set_size ("cache", value, &params.store.cache_bytes) < 0)
    return -1;
  if (params.store.cache_bytes >= CACHE_BYTES_MIN)
    return 0;
  nbdkit_error ("cache=%s: too small (say cache=1M or more)", value);
  return -1;
}

static int
set_linger (const char *value)
{
  uint64_t s;

  if (nbdkit_parse_uint64_t ("linger", value, &s) < 0 || s > LINGER_S_MAX) {
    nbdkit_error ("linger=%s: say a number of seconds, at most %" PRIu64, value,
                  LINGER_S_MAX);
    return -1;
  }
  params.store.linger_ns = s * NS_PER_S;
  params.store.linger_unwritten_ns = min_u64 (s, LINGER_UNWRITTEN_S) * NS_PER_S;
  return 0;
}

static int
set_default (const char *value)
{
  const char *wrong = store_name_error (value);

  if (wrong != NULL) {
    nbdkit_error ("default: %s (say default=NAME with the name of a disk)",
                  wrong);
    return -1;
  }
  return set_string (value, &params.default_name);
}

static int
set_direct (const char *value)
{
  if (strcmp (value, "auto") == 0) {
    params.store.direct = STORE_DIRECT_AUTO;
    return 0;
  }
  bool direct;

  if (set_bool ("direct", value, &direct) < 0)
    return -1;
  params.store.direct = direct ? STORE_DIRECT_YES : STORE_DIRECT_NO;
  return 0;
}

static int
set_discard (const char *value)
{
  bool on;

  if (strcmp (value, "auto") == 0) {
    params.store.discard = STORE_DISCARD_AUTO;
    return 0;
  }
  if (set_bool ("discard", value, &on) < 0)
    return -1;
  params.store.discard = on ? STORE_DISCARD_ON : STORE_DISCARD_OFF;
  return 0;
}

static int
set_armour (const char *value)
{
  bool on;

  if (strcmp (value, "auto") == 0) {
    params.armour = ARMOUR_AUTO;
    return 0;
  }
  if (set_bool ("armour", value, &on) < 0)
    return -1;
  params.armour = on ? ARMOUR_YES : ARMOUR_NO;
  return 0;
}

int
params_set (const char *key, const char *value)
{
  bool reserve;

  if (strcmp (key, "volume") == 0)
    return set_volume (value);
  if (strcmp (key, "durability") == 0)
    return set_durability (value);
  if (strcmp (key, "control") == 0)
    return set_string (value, &params.control);
  if (strcmp (key, "staging") == 0)
    return set_string (value, &params.staging);
  if (strcmp (key, "cache") == 0)
    return set_cache (value);
  if (strcmp (key, "swap-keep") == 0)
    return set_bool (key, value, &params.store.swap_keep);
  if (strcmp (key, "readonly") == 0)
    return set_bool (key, value, &params.store.readonly);
  if (strcmp (key, "swap-size") == 0)
    return set_size (key, value, &params.store.swap_size_bytes);
  if (strcmp (key, "linger") == 0)
    return set_linger (value);
  if (strcmp (key, "default") == 0)
    return set_default (value);
  if (strcmp (key, "direct") == 0)
    return set_direct (value);
  if (strcmp (key, "discard") == 0)
    return set_discard (value);
  if (strcmp (key, "armour") == 0)
    return set_armour (value);
  if (strcmp (key, "sparse") == 0)
    return set_bool (key, value, &params.store.sparse);
  if (strcmp (key, "force") == 0)
    return set_bool (key, value, &params.store.force);
  if (strcmp (key, "reserve") == 0) {
    if (set_bool (key, value, &reserve) < 0)
      return -1;
    params.store.reserve = reserve;
    return 0;
  }
  nbdkit_error ("unknown parameter '%s' (nbdkit farpage --help lists them)",
                key);
  return -1;
}

/* A path must hold when nbdkit goes to /. */
static int
make_absolute (char **path)
{
  char *absolute;

  if (*path == NULL || (*path)[0] == '\0')
    return 0;
  absolute = nbdkit_absolute_path (*path);
  if (absolute == NULL)
    return -1;
  free (*path);
  *path = absolute;
  return 0;
}

/* The first place in memory; NULL if there is none. */
static const char *
default_staging (void)
{
  static const char *const parents[] = { "/run", "/dev/shm" };
  static const char *const dirs[] = { "/run/farpage", "/dev/shm/farpage" };
  const char *user = getenv ("XDG_RUNTIME_DIR");
  struct statfs fs;

  if (user != NULL && geteuid () != 0 && statfs (user, &fs) == 0 &&
      fs.f_type == TMPFS_MAGIC &&
      asprintf (&params.staging, "%s/farpage", user) >= 0)
    return params.staging;
  for (unsigned i = 0; i < 2; i++)
    if (statfs (parents[i], &fs) == 0 && fs.f_type == TMPFS_MAGIC)
      return dirs[i];
  return NULL;
}

/* What the volumes are, and what is to be kept, must fit together. */
static int
complete_durability (void)
{
  struct store_config *sc = &params.store;
  unsigned nr_paths = 0;

  for (unsigned i = 0; i < sc->nr_volumes; i++)
    nr_paths += params.paths[i] != NULL;
  if (!params.has_durability)
    sc->durability = nr_paths > 0 ? STORE_FLUSH : STORE_VOLATILE;
  if (sc->durability != STORE_VOLATILE && nr_paths < sc->nr_volumes) {
    nbdkit_error ("mem: keeps nothing (say durability=volatile, or use files "
                  "or block devices only)");
    return -1;
  }
  if (sc->durability == STORE_VOLATILE && (sc->readonly || sc->swap_keep)) {
    nbdkit_error ("%s=yes needs a store made by 'farpage format'",
                  sc->readonly ? "readonly" : "swap-keep");
    return -1;
  }
  if (sc->durability != STORE_VOLATILE && sc->force) {
    nbdkit_error ("force=yes: a server never overwrites what it is to keep "
                  "(say durability=volatile, or use 'farpage format --force')");
    return -1;
  }
  if (params.staging == NULL)
    sc->staging_dir = default_staging ();
  else if (params.staging[0] != '\0')
    sc->staging_dir = params.staging;
  if (sc->readonly)
    sc->staging_dir = NULL;
  return 0;
}

int
params_complete (void)
{
  if (params.store.nr_volumes == 0) {
    nbdkit_error ("no volume (say mem:1G for memory, or the path of a file "
                  "or block device)");
    return -1;
  }
  if (params.store.swap_size_bytes > OBJECT_BYTES_MAX) {
    nbdkit_error ("swap-size: too large (say 1P or less)");
    return -1;
  }
  if (make_absolute (&params.control) < 0 ||
      make_absolute (&params.staging) < 0 || complete_durability () < 0)
    return -1;
  params.store.volumes = params.volumes;
  params.store.default_name = params.default_name;
  return 0;
}

void
params_free (void)
{
  for (unsigned i = 0; i < VOLUMES_MAX; i++) {
    free (params.paths[i]);
    params.paths[i] = NULL;
  }
  free (params.control);
  free (params.staging);
  free (params.default_name);
  params.control = params.staging = params.default_name = NULL;
}

const struct store_config *
params_store (void)
{
  return &params.store;
}

const char *
params_control (void)
{
  return params.control;
}

enum armour_wanted
params_armour (void)
{
  return params.armour;
}
