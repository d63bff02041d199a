"""Reports of the history, which the portal asks a process of its own for.

`questions` are what can be asked, of a kit, in any process; `reporter` asks them of a child, which
`python -m portal.reports` is. So the libraries that read histories, hundreds of megabytes of them,
are never loaded in the portal.
"""
