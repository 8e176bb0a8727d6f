// Package mesh is one host's view of, and part in, the truth that the hosts of a mesh
// share: who they are, which networks there are, which addresses are whose, and which
// endpoints are where. It stands on a store (etcd, in practice) and on a cache in the
// host's own; it knows no kernel and no containers. The controller asks it (its
// methods) and is told (Sink).
//
// # Addresses: no one twice
//
// A subnet is cut into blocks. A block belongs to one host from the commit that creates
// its key (which must not exist) until it is given back. A host hands out addresses of its
// own blocks, from its own memory, asking nobody: this works as well cut off. Everything
// else follows from keeping this true:
//
//   - A block is used only after its commit was confirmed. One whose answer was lost is
//     not used; it is found at the next comparison with the store (audit) and taken into
//     memory by writing it again by its revision.
//   - A single address of another host's block is asked of that host, through a key
//     (asks/) that it answers. Before the answer is written, the owner has the grant in
//     its own store on disk, so that no crash makes it hand the address out. The granted
//     key is the asker's title, until it deletes it by its revision.
//   - Blocks are never taken from a host that is silent: dead and cut off look alike.
//     They return by Leave, or by Forget, in which a person says that the host is no
//     more. A block in which others were granted addresses becomes one of theirs; whoever
//     claims a free one looks for titles inside of it before he uses it, and who puts
//     back a title (after a restore) into another's block asks for it again.
//   - Every commit of a host is conditional on its own record (hosts/<id>), by revision.
//     Forget deletes that record first, and then sweeps; what the forgotten host writes
//     late fails, and it learns by it that it was forgotten: it fences itself (no
//     underlay, no blocks, no peers), also across restarts, until it joins anew.
//
// # Networks
//
// Name, subnets and VNIs of a network are claimed in one commit, conditional on the key
// "space", which every such commit writes: overlaps, with other networks and with what
// hosts use themselves, are checked one at a time. Removing a network is conditional on
// "members/<network>", which whoever comes to the network (presence, a block) writes in a
// commit that is conditional on the network's key: either the removal sees the
// newcomer, or the newcomer fails. A claim makes its host present in the same commit. What is below a removed network or host is swept by
// whoever removed it, and, if that one dies, by any other (sweeps/).
// Blocks and titles below a removed network are given back by those whose they are, when
// they learn of it, or by who forgets them: one that is cut off may be using them, and
// another that is may put the network back.
//
// # What is told
//
// Every endpoint is a key with its whole state, so the order in which hosts write does
// not matter, and a key that changed ten times while the store was away is written once.
// A change is committed at once when the writer is idle; what comes while a commit is on
// its way goes together in the next, up to 128 operations. All follow the hosts, their
// liveness, the networks and the asks; endpoints and blocks are followed only of networks
// on which the host has endpoints, so that one more endpoint costs those who care.
// A watch that ends (compacted, cut off, too slow) is followed by a new listing, after a
// moment that is random, so that many hosts do not list at once; every ten minutes
// everything is compared.
//
// # Cut off
//
// While the store cannot be reached: everything known stays (stale is better than a black
// hole), containers start with addresses of the host's own blocks, changes wait. Create,
// Remove, and Claim of a further block err with cnm.ErrUnavailable and say since when.
// After a restart without the store, New knows from the cache what was last known.
// When it is back: listings, the queue, done; nobody has to do anything.
//
// A network that was removed elsewhere while a cut-off host had endpoints on it is put
// back by that host, unless its name or subnet was given away meanwhile; then the
// host says so (Status.Stuck) and keeps its containers.
//
// A store restored from a backup has another Generation in its record (Restored), or a
// revision below one seen before. Every host then puts back its record, its networks in
// use, blocks, borrowed addresses and endpoints, and writes the generation into its
// record; until all hosts that are there did so, no block is claimed and no network
// made. What a host claimed after the backup and cannot put back because it is away,
// another may claim: that is the one limit of "no address twice", and the reason to
// restore only when no majority is left.
package mesh
