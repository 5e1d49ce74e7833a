"""What is trained: a teacher with branches, and a student from a fixed teacher."""

from .offline import HSAKDOffline
from .teacher import HSAKDTeacher

__all__ = ['HSAKDOffline', 'HSAKDTeacher']
