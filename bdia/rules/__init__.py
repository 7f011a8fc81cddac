"""Update rules beside the plain transformer's and BDIA's (`bdia.updates`), one file each: the forward, and its inverse.

They compute other functions than a plain transformer, in eval mode too: compare their memory and speed, not their loss.
"""
