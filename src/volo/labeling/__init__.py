"""Token labels: a teacher labels every region of a data set."""
