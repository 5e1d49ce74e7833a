"""What is trained: a teacher with branches, a student from a fixed teacher, networks together."""

from .offline import HSAKDOffline
from .online import HSAKDOnline
from .teacher import HSAKDTeacher

__all__ = ['HSAKDOffline', 'HSAKDOnline', 'HSAKDTeacher']
