"""The files of the viewer that dicomnet serves: OHIF 3.13.2 and dicomnet's extension of it.

Data only, in ``assets``; ``THIRD-PARTY.txt`` there has the notices of what it is made of. ``dicomnet.web.viewer``
serves it.
"""

__version__ = "3.13.2.3"
