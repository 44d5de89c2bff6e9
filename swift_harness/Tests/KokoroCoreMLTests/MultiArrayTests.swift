#if canImport(CoreML)
    import CoreML
    import CoreMLSupport
    import XCTest

    @testable import KokoroCoreML

    /// With Apple's framework on a Mac, with the stand-in on Linux.
    final class MultiArrayTests: XCTestCase {
        func testValuesAreReadWhereTheStridesSay() throws {
            for (type, shape) in [
                (.float32, [2, 3, 5]), (.int32, [1, 7]), (.float16, [1, 2, 1, 33]),
                (.float32, [4, 16]), (.float16, [3]), (.float16, [2, 1, 1, 1]), (.float32, [1]),
            ] as [(Manifest.ElementType, [Int])] {
                let count = shape.reduce(type.byteCount, *)
                let bytes = Data((0..<count).map { UInt8($0 % 120) })
                let tensor = try XCTUnwrap(Tensor(PaddedArray.make(bytes, type, shape)))
                XCTAssertEqual(tensor.type, type)
                XCTAssertEqual(tensor.shape, shape)
                XCTAssertEqual(try tensor.storage.bytes(), bytes)
            }
        }

        func testThePaddingBetweenRowsIsNotLookedAtForNaN() throws {
            let good = try XCTUnwrap(
                Tensor(PaddedArray.make(Data(count: 2 * 3 * 2), .float16, [2, 3])))
            XCTAssert(try good.isFinite())
            let bad = Data([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x7C])
            let tensor = try XCTUnwrap(Tensor(PaddedArray.make(bad, .float16, [2, 3])))
            XCTAssertFalse(try tensor.isFinite())
        }

        func testWhatIsGivenIsWrittenWithoutGapsAndComesBack() throws {
            let tensor = Tensor([1, 2, 3, 4, 5, 6] as [Int32], shape: [2, 3])
            let array = try tensor.multiArray()
            XCTAssertEqual(array.strides, [3, 1])
            XCTAssertEqual(array.dataType, .int32)
            XCTAssertEqual(try Tensor(array)?.int32s(), [1, 2, 3, 4, 5, 6])
        }

        func testAnArrayOfCoreMLIsPassedOnAsItIs() throws {
            let array = try PaddedArray.make(Data(count: 12), .float32, [1, 3])
            XCTAssert(try XCTUnwrap(Tensor(array)).multiArray() === array)
        }

        func testMemoryThatIsTooShortIsRefused() throws {
            let layout = try XCTUnwrap(
                StridedLayout(shape: [2, 3], strides: [16, 1], itemBytes: 4))
            XCTAssertEqual(layout.spannedBytes, (16 + 3) * 4)
            for (bytes, isEnough) in [(75, false), (76, true)] {
                [UInt8](repeating: 0, count: bytes).withUnsafeBytes { memory in
                    XCTAssertEqual(layout.packed(memory) != nil, isEnough)
                    XCTAssertEqual(layout.allRuns(of: memory) { _ in true }, isEnough ? true : nil)
                }
                var target = [UInt8](repeating: 0, count: bytes)
                target.withUnsafeMutableBytes { memory in
                    XCTAssertEqual(layout.unpack(Data(count: 24), into: memory), isEnough)
                    XCTAssertFalse(layout.unpack(Data(count: 23), into: memory))
                }
            }
            XCTAssertNil(StridedLayout(shape: [2], strides: [1, 1], itemBytes: 4))
            XCTAssertNil(StridedLayout(shape: [2], strides: [-1], itemBytes: 4))
        }

        func testElementsThatNoBundleHasAreNoTensor() throws {
            XCTAssertNil(Tensor(try MLMultiArray(shape: [2], dataType: .double)))
        }
    }
#endif
