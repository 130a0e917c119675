//! Decisions, each with its reason and with what would reopen it. No code.
//!
//! # Answers to requests with `Authorization` are stored
//! RFC 9111 §3.5 lets a shared cache do so only if the origin says so, which Flameup does not. The
//! rule keeps one user's answer from another. Here the client's credential never reaches Flameup;
//! one key decides what is answered, and every cache key begins with the workspace of that key.
//! Given up: nothing that the rule protects. Reopened by: keys whose answers differ by caller.
//!
//! # One fetch serves everybody, and belongs to nobody
//! A fetch runs in a task of its own and is waited for through a channel. Were it to run in the
//! first caller's task, that caller could leave and fail all others. Given up: a spawned task for
//! each miss, some microseconds. Reopened by: nothing known.
//!
//! # A stalled fetch is replaced once, and the first success wins
//! Half of the upstream's deadline after its start, the next caller's arrival starts a second
//! attempt for the same waiters. A failure of one attempt is published only when the other has
//! ended too. Given up: at worst two requests of the budget for one answer. Reopened by: a budget
//! so short that even this is too much.
//!
//! # People and absences are stored apart
//! A caller that asks for invented ids can fill the memory for absences, and no more. It also lets
//! people be found under the folded spelling of an e-mail and absences under the exact one.
//! Given up: a second lookup on the way to a miss. Reopened by: nothing known.
//!
//! # Only ASCII case is folded, and only in e-mails
//! Unicode folding joins letters that are different: the Kelvin sign and k. Joining two people is
//! the one mistake that must not happen; a missed hit costs one request. Blanks around an e-mail
//! are dropped from what is forwarded too, so that the question is the one the key stands for.
//! Reopened by: Flameup stating its rules.
//!
//! # A 404 is believed only in Flameup's envelope
//! A page of a machine in between has the status too, and says nothing of the person. It is passed
//! on, and not stored. Given up: nothing. Reopened by: 404s of Flameup's that are no JSON object.
//!
//! # A body of another workspace is passed on, not stored
//! It is what Flameup answered to this key, and passing it on invents nothing; storing it could
//! serve it past the mistake's end. It is an error in the log and a count in the metrics.
//! Reopened by: an operator who would rather have no answer.
//!
//! # A token that is shown must be known
//! Where anonymous callers are allowed beside clients with tokens, a wrong token is still refused:
//! falling back would hide a typing error and change the caller's rights in silence. Where no
//! client has a token, `Authorization` is ignored, since services that just changed their base URL
//! still send their old key. Reopened by: nothing known.
//!
//! # Tokens that have come are known again by a keyed hash
//! SHA-256 of the token was half of what an answer from memory took. Remembering the token itself
//! takes least, and would make this process's memory the one place where clients' tokens lie. A hash
//! of 128 bits under a random key of the process takes 100 instructions more, and whoever reads the
//! hashes learns nothing. `SipHash`, as what counts is that nobody can aim at a hash, and it is small
//! enough to be read here. Given up: a dependency that others look after. Reopened by: a keyed hash
//! among what is linked already.
//!
//! # How HTTP/2 begins is read before hyper sees it
//! The library takes any first frame for settings. Whoever begins otherwise is no client of HTTP/2,
//! and is refused before it has cost a connection's state. Frames are counted on their way in for the
//! same reason: what a flood is, the library leaves to others. Given up: a client that waits for our
//! settings before it sends its own, which RFC 9113 §3.4 forbids. Reopened by: a library that does both.
//!
//! # Times on a connection are kept by looking, not by timers
//! hyper's own timeout for heads sets a timer for each request and closes without an answer. A
//! word in an atomic, looked at every few seconds, costs a request nothing and lets a slow head be
//! answered with 408. Given up: a limit may be overrun by a quarter. Reopened by: limits that must
//! be exact.
//!
//! # hyper's own responses are exchanged on the wire
//! To a head that it cannot parse hyper writes a bare status line of its own. The stream below it
//! knows that no request is under way and writes the gateway's envelope in its place. A client
//! that sends such a head behind a request whose answer it does not read gets the bare one.
//! Reopened by: a hook in hyper.
//!
//! # Log lines of libraries below warnings never pass
//! At their finer levels the HTTP libraries log targets and headers, the key among them. No filter
//! that an operator sets lets them through. Given up: debugging of hyper in production.
//!
//! # The budget counts from sending until a window after the answer
//! A request counts at Flameup at some moment between the two. Counting it for all of that time
//! keeps below the limit in any window, whatever its kind and however far the clocks are apart, so
//! nothing has to be known to be safe. What is learned only makes use of more: a window that is
//! proven fixed is spent to its end. Given up: as much of the limit as the answers take, below one
//! per cent. Reopened by: a limit that is not a number of requests in a window.
//!
//! # Unknown ids wait behind everybody, and are refused only when nothing is left over
//! A caller may spend a quarter of its share on people that are not in memory. Held strictly, that
//! would leave three quarters idle whenever a gateway starts, as everybody is unknown then. Beyond
//! the quarter they wait behind every known person and start only from what is left over. A sweep
//! over invented ids still cannot keep a known person waiting. Given up: the bound on how much such
//! a sweep can learn when nobody else asks. Reopened by: callers that are not trusted with that.
//!
//! # More urgent callers do not wait for less urgent ones' turns
//! Concurrent requests for one person are one fetch, and the fetch waits in the class of whoever
//! came first. An interactive caller that joins a batch job's fetch gets an attempt of its own in
//! its own class; the first attempt whose turn comes is sent, the others give up theirs. Given up:
//! a place in the queue for each class. Reopened by: nothing known.
//!
//! # A refusal is a promise
//! A 429 tells each caller a time of its own, one slot later than the last one told, and whoever
//! comes back at that time goes before those of its class who were told nothing. Otherwise all come
//! back together and most are refused again. Given up: some bookkeeping, and a slot in eleven that
//! is promised to nobody. Reopened by: callers that ignore `Retry-After`.
//!
//! # A request that is sent on is sent once, and outlives its client
//! No idempotency key is documented, and sends reach real people, so nothing is repeated, not even
//! after a connection that failed. A task of its own sees the request to its end: a client that
//! leaves must not leave a change behind of which the cache hears nothing, and a client that reads
//! slowly must not keep a place among the forwards. Given up: answers whose client takes longer than
//! `upstream.timeout` to read them. Reopened by: answers much larger than a page of people.
//!
//! # The last bytes wait for the cache
//! The last piece of a write's body goes to Flameup when the cache has heard whom it names, and the
//! last piece of the answer to the client when the cache has dropped them. Flameup cannot act on
//! half a JSON text, and the client cannot have the whole answer, before that. Given up: one piece
//! of delay. Reopened by: nothing known.
//!
//! # Memory is overwritten when it is given back
//! An erased person must not live on in freed buffers, so the program's allocator overwrites what
//! it frees. The store's table keeps a removed key in its place until it is put in order, so an
//! erasure has keys of nobody come and go until it is. A test searches a real process. Given up: a
//! pass over each freed buffer, 2 % of a hit's time, most of it for the 8 KiB that hyper takes anew
//! for each head; and growing buffers in place. Reopened by: a hit that it slows down more.
//!
//! # Memory has a place for each size
//! People stay for long, between buffers that come and go. The allocator of glibc lays both side by
//! side and cannot give back what is left between people: 1,809 bytes of resident memory a person in
//! the whole program. mimalloc keeps pieces of one size together: 1,536 then. Its third version took
//! 1,633. The weight of an entry rounds up as it does, and a bench holds the growth of the process
//! to the bound. Given up: some ten megabytes however few are stored, and a
//! dependency in C. Reopened by: another allocator whose bench says less.
//!
//! # The admin listener is asked by address
//! A page can have its own name point at loopback (DNS rebinding) and then read whatever answers
//! to that name. Requests for any name but `localhost` are refused, with a token or without: one
//! rule is easier to trust. Given up: scraping metrics by a name. Reopened by: operators who cannot
//! scrape by address.
//!
//! # Secrets are read in rounds
//! Files with keys and tokens are read twice a second and compared by what they hold, rather than
//! watched by the system's notices: those name paths, and a mounted secret is replaced by turning a
//! link several directories up, or on a disk that gives no notices. Twice the same means that a
//! writer is done. Given up: a second until a new key counts. Reopened by: hundreds of workspaces.
//!
//! # A configuration changes whole or not at all, and not everywhere
//! A reload loads everything as a start does and compares it key by key with what is in use. If a
//! key differs that cannot change, nothing does: half of a change is what nobody wrote down. What
//! can change is what is urgent (who may ask, with which secrets, what is logged). Certificates come
//! first, since they may yet prove of no use, and nothing after them can fail. Given up:
//! changing lifetimes and budgets without a restart. Reopened by: an operator who needs that.
//!
//! # Changes are told by a log, and its positions are the generations
//! A message of pub/sub that is lost is lost without a trace. In a stream every change has a number,
//! a replica knows the last one that it has applied, and what was missed is read later; a number that
//! is gone from the log says that too much was. The same numbers tell old from new everywhere: whatever
//! is stored carries the position that its fetch began at, and loses against a later change of any of
//! its names. Given up: a connection for each workspace that waits for the next message. Reopened by:
//! changes by the thousand each second, where Flameup allows two.
//!
//! # A workspace has one slot
//! All that is shared of one workspace has one hash tag, so that a script sees a person, its names, its
//! last changes and its lease together or not at all. Given up: spreading one workspace over a Cluster.
//! Reopened by: a limit of Flameup's that one node of Redis cannot keep up with.
//!
//! # Ages are told by Redis' clock
//! Clocks of gateways may be minutes apart, and an age must not be. Scripts read the time where they
//! run; a moment of ours is translated so that it can only come out too early, and an age only too
//! great. Given up: up to one round trip of lifetime. Reopened by: nodes of one Redis whose own clocks
//! are apart, which a fail-over would show.
//!
//! # A gateway without Redis is a single one, and others say so
//! Who has lost the way to Redis cannot tell whether Redis or itself is alone. It goes on as a single
//! gateway, for nothing of Redis may be needed to answer; and every change that others make meanwhile
//! is answered with word that this replica has not confirmed it. Refusing its own memory instead would
//! turn each failure of Redis into one of everybody's. Given up: that such a replica sees others' changes
//! before its lifetimes are over. Reopened by: an operator who would rather have no answer.
//!
//! # Names in Redis have a key that is not replaced while gateways run
//! Values can be opened with either of two keys, but a name is found only by whoever makes the same one.
//! So names can have a key of their own; without one they are made with the key that is on its way out,
//! which all replicas have until it is taken out. Given up: replacing that one without stopping all.
//! Reopened by: rotations of it so frequent that this is felt.
