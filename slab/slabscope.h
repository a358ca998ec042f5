/* SPDX-License-Identifier: MIT
 *
 * slabscope.h: object caches and groups for programs that run with libslabscope.so.
 *
 *   slab_cache_create ─► alloc ─► free ─► … ─► slab_cache_destroy         0, or -EBUSY and a report
 *                                          └─► slab_cache_destroy_detach  0, or 1: a zombie that
 *                                                                         goes with its last object
 *
 * A cache hands out objects of one size, from slabs of its own: they lie close together, are found
 * again by the cache's name in every view of slabscope, and cost what malloc and free cost. Link
 * with -lslabscope, or look the functions up with dlsym(RTLD_DEFAULT, …) in a program that runs
 * under LD_PRELOAD. C11 and C++; the typed header for C++ is slab/slabscope.hpp. The guide is
 * docs/object-caches.md.
 *
 * Every function may be called from any thread. What the program must not do: use a cache after it
 * was destroyed, or free what is not an object of the cache; the latter ends it, with one clear
 * line.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* NOLINTBEGIN(readability-identifier-naming): names are those of C programs and of Linux */

#ifdef __cplusplus
extern "C" {
#endif

struct slab_cache;
struct rcu_flavor_struct; /* liburcu's, from <urcu/flavor.h>; each of its headers names one */

/* What a cache is to be like; a null pointer stands for all zeroes. */
struct slab_cache_args {
  /* Of objects: a power of two up to 16384; 0: 16 if it divides the size, else 8. */
  size_t align;
  unsigned flags; /* SLAB_… below */
  /* Once, before an object is first handed out. */
  void (*ctor)(void* object);
  /* Once, when its memory leaves the cache. */
  void (*dtor)(void* object);
  /* For SLAB_TYPESAFE_BY_RCU: the flavour that the program's readers use, &rcu_flavor. Its
   * functions are copied, and called by the thread that waits. */
  const struct rcu_flavor_struct* rcu;
};

/* Debugging: slow; Linux's names and values. What is found ends the program with one line that
 * says where. docs/object-caches.md.
 *
 * A second free and a free of what is not an object's start are found at once. */
#define SLAB_CONSISTENCY_CHECKS 0x00000100u
/* Bytes before and behind each object that nobody may write. */
#define SLAB_RED_ZONE 0x00000400u
/* Free objects hold a pattern that nobody may change. Without effect on objects with ctor, dtor or
 * SLAB_TYPESAFE_BY_RCU, which keep their state. */
#define SLAB_POISON 0x00000800u
/* Objects start at a cache line, small ones at a fraction of one. */
#define SLAB_HWCACHE_ALIGN 0x00002000u
/* Each object's stack is recorded, whatever SLABSCOPE_TRACK says. For debugging: slow. */
#define SLAB_STORE_USER 0x00010000u
/* Readers under RCU may look at objects that are freed, and reused, while they look: the memory
 * stays an object of this cache until they have left, and freeing writes nothing into it. They must
 * find out by themselves whether it still is the object they looked for. Memory is given back only
 * by slab_cache_shrink and the two destroys, after a grace period. */
#define SLAB_TYPESAFE_BY_RCU 0x00080000u
/* May share its slabs with other caches of the same geometry that ask for this too; then reports
 * and numbers are those of all of them. Without effect with ctor, dtor, SLAB_TYPESAFE_BY_RCU or a
 * flag for debugging. */
#define SLAB_MERGE 0x01000000u

/* The largest object. What is larger gains nothing from a cache: use malloc. */
#define SLAB_MAX_OBJECT_SIZE 32768u
/* Bytes of a name, its NUL not counted. */
#define SLAB_MAX_NAME 63u

/* A cache of objects of `size` bytes; `args` may be null. Null with errno:
 *   EINVAL        a size of 0 or over SLAB_MAX_OBJECT_SIZE, an alignment that cannot be, unknown
 *                 flags, SLAB_TYPESAFE_BY_RCU without a flavour in args->rcu, or a name that is
 *                 empty, begins with ':' or holds a space, a control character or '/'
 *   ENAMETOOLONG  a name of more than SLAB_MAX_NAME bytes
 *   EEXIST        a cache of that name exists
 *   ENOSPC        too many caches (some 3900)
 *   ENOMEM        no memory
 * With a constructor, objects keep their state from free to alloc: what is freed must be as the
 * constructor left it. Neither may fail; both may allocate, and run without a lock of slabscope. */
struct slab_cache* slab_cache_create(const char* name, size_t size,
                                     const struct slab_cache_args* args);

/* An object; null with errno ENOMEM, or ENODEV when the cache is being destroyed or is gone. */
void* slab_cache_alloc(struct slab_cache* cache);
/* The same, all zero. EINVAL for a cache whose objects keep their state: with ctor or dtor, or
 * SLAB_TYPESAFE_BY_RCU. */
void* slab_cache_zalloc(struct slab_cache* cache);
/* Takes an object back; null is allowed. So does free(), for caches without constructor and
 * destructor a little slower, for the others too. errno stays as it was. */
void slab_cache_free(struct slab_cache* cache, void* object);

/* All `count` objects or none: returns count, or 0 with errno as slab_cache_alloc. */
size_t slab_cache_alloc_bulk(struct slab_cache* cache, size_t count, void** objects);
void slab_cache_free_bulk(struct slab_cache* cache, size_t count, void** objects);

/* Gives empty slabs back. Returns how many, or -EINVAL if the cache is not alive.
 *
 * This, the two destroys and, if a detached typesafe cache has lost its last object, the next
 * create wait for a grace period of such caches' flavours: call them as you would
 * synchronize_rcu(), not in a read section and with no lock that a reader may want. */
int slab_cache_shrink(struct slab_cache* cache);

/* Destroys the cache if no object of it is left: 0. Otherwise -EBUSY: the cache is as before, and
 * all that remains is reported with its stacks (to stderr, or where SLABSCOPE_REPORT says) and
 * marked in the scope file. -EALREADY: another thread is at it. -EINVAL: there is no such cache any
 * more. A null cache is none: 0. Allocations by other threads meanwhile fail with ENODEV. */
int slab_cache_destroy(struct slab_cache* cache);
/* Removes the cache's name in any case: 0 if no object is left, 1 if some are; the cache then stays
 * visible as a zombie until the last of them is freed. Errors as above.
 *
 * Of merged caches both remove the caller's name alone, and return 0, while others are left: the
 * objects belong to all of them, and are freed with free() or through another one. The last one
 * decides, as above. A call of slab_cache_show or _store that is under way is waited for: neither
 * may lead here in the same thread (from a destructor that a shrink runs). */
int slab_cache_destroy_detach(struct slab_cache* cache);

/* The cache whose object lies at `object` (its start, or any byte of it); null for other memory. Of
 * merged caches: what they share, whose name begins with ':'. It is good for everything but
 * destruction (-EINVAL). */
struct slab_cache* slab_cache_of(const void* object);
const char* slab_cache_name(const struct slab_cache* cache);
/* The size that was asked for. */
size_t slab_cache_size(const struct slab_cache* cache);

struct slab_cache_stats {
  uint64_t active_objects; /* in use now */
  uint64_t allocations_total;
  uint64_t frees_total;
  uint64_t object_size; /* what an object takes in its slab */
  uint64_t objects_per_slab;
  uint64_t slab_size; /* bytes */
  uint64_t slabs;
  uint64_t slabs_empty;         /* of these, kept without an object out */
  uint64_t allocations_refused; /* because the cache was being destroyed */
};
/* 0, or -EINVAL if there is no such cache any more. Exact when nobody else is at work on it. */
int slab_cache_get_stats(struct slab_cache* cache, struct slab_cache_stats* stats);

/* Calls visit(cache, context) for each cache that is alive, until one call returns non-zero, which
 * is returned; else 0. No lock is held: caches may come and go meanwhile, but the one that is
 * visited keeps its memory until visit returns. */
int slab_cache_for_each(int (*visit)(struct slab_cache* cache, void* context), void* context);

/* The cache of that name, held until slab_cache_put(): it may be destroyed meanwhile, but `cache`
 * names no other one, and calls say ENODEV or EINVAL. Null: there is none. */
struct slab_cache* slab_cache_find(const char* name);
void slab_cache_put(struct slab_cache* cache);

/* The attributes that /sys/kernel/slab/CACHE has in Linux, in its formats; docs/object-caches.md
 * lists them. show writes at most `size` bytes, a NUL included, and returns the length of the whole
 * text (as snprintf). store takes what one would echo into the file. Errors: -ENOENT no such
 * attribute, -ENODEV the cache is being or was removed, -EACCES read-only, -EINVAL what was stored
 * is not understood, -ENOSYS not to be had inside the process. */
int slab_cache_show(struct slab_cache* cache, const char* attribute, char* buffer, size_t size);
int slab_cache_store(struct slab_cache* cache, const char* attribute, const char* text);

/* ---- groups: whose memory is it? -----------------------------------------------------------
 *
 *   slab_group_enter(group) ─► malloc, new, … of this thread ─► the group's own part of each cache
 *   slab_group_leave()                                          counts apart, ends apart
 *
 * What a thread allocates with malloc and the like while it is in a group belongs to the group
 * until it is freed, by whatever thread. Costs nothing in malloc and free. docs/groups.md. */

struct slab_group;

/* A group. Null with errno EINVAL, ENAMETOOLONG, EEXIST (as slab_cache_create), ENOSPC (too many:
 * some 36, fewer with many caches) or ENOMEM. */
struct slab_group* slab_group_create(const char* name);

/* Ends the group if nothing of it is in use and no thread is in it: 0. Otherwise -EBUSY: the group
 * is as before, and all that remains is reported with its stacks. -EALREADY: another thread is at
 * it. -EINVAL: there is no such group any more. A null group is none: 0. */
int slab_group_destroy(struct slab_group* group);
/* Removes the group's name in any case: 0 if nothing was left, 1 if something was; the group then
 * stays visible, offline, until the last object is freed and the last thread has left. */
int slab_group_destroy_detach(struct slab_group* group);

/* The calling thread allocates from the group until it leaves. Nests: leaving goes back to the
 * group before. A null group, or one that is being destroyed: to none. */
void slab_group_enter(struct slab_group* group);
void slab_group_leave(void);

/* What the group may hold in slabs and large blocks, in bytes; 0: any amount. An allocation that
 * needs more than is left fails with ENOMEM. If `on_limit` is not null it is asked first, in the
 * allocating thread and without a lock of slabscope: it may free memory, and returns non-zero for
 * another try. What it allocates from the group itself fails at the limit without asking again.
 * Slabs have 16 KiB or more: a limit is as exact as that. 0, or -EINVAL. */
int slab_group_set_limit(struct slab_group* group, size_t bytes,
                         int (*on_limit)(struct slab_group* group, size_t wanted));

const char* slab_group_name(const struct slab_group* group);

struct slab_group_stats {
  uint64_t active_objects; /* in use now, large blocks included */
  uint64_t active_bytes;
  uint64_t held_bytes;  /* in its slabs and large blocks */
  uint64_t limit_bytes; /* 0: none */
  uint64_t threads;     /* that are in it now; one that entered twice counts twice */
  uint64_t allocations_refused;
};
/* 0, or -EINVAL if there is no such group any more. Exact when nobody else is at work in it. */
int slab_group_get_stats(const struct slab_group* group, struct slab_group_stats* stats);

#ifdef __cplusplus
}
#endif
/* NOLINTEND(readability-identifier-naming) */
