"""One run on several processes, started by mpirun: what each of them does, and what they tell each other.

A process is called a rank, as in MPI, and has a number from 0 on. All ranks go through the same code and take the same
decisions. What takes time they divide: `Ranks.divided` the sentences of evaluation and decoding, `shares` the batches
of training, `moments` what Adam remembers. Rank 0 alone writes files and prints.
"""
