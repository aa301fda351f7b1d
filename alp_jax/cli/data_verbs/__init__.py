"""The actions of ``alp data``, a file each."""
